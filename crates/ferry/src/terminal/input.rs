//! Stdin as a stream that never keeps the program from ending.

use std::io::Read as _;
use std::thread;

use tokio::sync::mpsc;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Chunks that wait for a slow engine; more only moves the queue from the pipe to here.
const QUEUE: usize = 4;

/// Reads stdin in a thread of its own: a read of a terminal or a pipe cannot be cancelled, and this thread
/// simply ends with the process. The channel closes at the end of the input.
pub(super) fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count) = stdin.read(&mut buffer) {
            if count == 0 || sender.blocking_send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}
