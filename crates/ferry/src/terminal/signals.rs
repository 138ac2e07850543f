//! Signals that we get and the process in the container shall have.

use ferry_api::{Call, Client};
use tokio::signal::unix::{SignalKind, signal};

use super::size;

/// Signals by number, in the names the API takes. Left out: those that cannot be caught, those that tell of
/// faults in this program, and CHLD, PIPE, URG and WINCH, which are about this program's own business.
const SIGNALS: [(i32, &str); 20] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (5, "TRAP"),
    (6, "ABRT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (16, "STKFLT"),
    (18, "CONT"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (27, "PROF"),
    (29, "IO"),
    (30, "PWR"),
];
/// So many INT or TERM in a row end this program although the container still runs.
const PATIENCE: u32 = 3;

/// What a resize is about.
#[derive(Clone)]
pub enum Target {
    /// A container's main process.
    Container(String),
    /// An exec.
    Exec(String),
}

impl Target {
    fn resize(&self, [rows, columns]: [u32; 2]) -> Call {
        let path = match self {
            Target::Container(id) => format!("/containers/{}/resize", Call::segment(id)),
            Target::Exec(id) => format!("/exec/{}/resize", Call::segment(id)),
        };
        Call::post(path).query("h", rows.to_string()).query("w", columns.to_string())
    }
}

/// Passes every signal on to the container from now on, in the background.
pub fn forward(client: &Client, container: &str) {
    for (number, name) in SIGNALS {
        let Ok(mut stream) = signal(SignalKind::from_raw(number)) else { continue };
        let client = client.clone();
        let path = format!("/containers/{}/kill", Call::segment(container));
        tokio::spawn(async move {
            let mut insisted = 0;
            while stream.recv().await.is_some() {
                insisted += 1;
                if insisted >= PATIENCE && matches!(name, "INT" | "TERM") {
                    crate::output::note(&format!(
                        "got {PATIENCE} SIG{name}, exiting; the container may still be running"
                    ));
                    std::process::exit(1);
                }
                // A container that has just ended takes no signal, and that is no failure of ours.
                if let Ok(response) = client.call(Call::post(path.as_str()).query("signal", name)).await {
                    let _ = response.discard().await;
                }
            }
        });
    }
}

/// Gives the process our terminal's size, now and whenever it changes.
pub async fn forward_resize(client: &Client, target: Target) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    let client = client.clone();
    let resize = async move |client: &Client, target: &Target| {
        let now = size();
        if now == [0, 0] {
            return;
        }
        if let Ok(response) = client.call(target.resize(now)).await {
            let _ = response.discard().await;
        }
    };
    resize(&client, &target).await;
    tokio::spawn(async move {
        while changes.recv().await.is_some() {
            resize(&client, &target).await;
        }
    });
}
