//! What a first container says.

use std::io;

/// Tells what has just happened.
pub fn outside() -> io::Result<()> {
    println!(
        "Hello from Ferry!\n\n\
         This text was printed by a container. What has just happened:\n \
         1. The ferry command asked the engine over a Unix socket to create and start a container;\n    \
         where no engine ran, it started one.\n \
         2. The engine took the image localhost/hello, which is made from the ferry program itself:\n    \
         no registry and no network were needed.\n \
         3. The container got a file system, a host name ({}), processes and limits of its own.\n \
         4. This program ran in it as process {} and its output came back to your terminal.\n\n\
         Try next:\n  \
         ferry run -d --name web localhost/hello web     a web page with a hit counter\n  \
         ferry ps                                        what runs\n  \
         ferry logs web                                  what it has printed\n  \
         ferry rm -f web                                 remove it",
        super::hostname(),
        std::process::id()
    );
    Ok(())
}

/// Tells where an exec is.
pub fn inside() -> io::Result<()> {
    let mut processes: Vec<(u32, String)> = std::fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let words: Vec<String> = line
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            Some((pid, words.join(" ").trim().to_owned()))
        })
        .collect();
    processes.sort_unstable();
    println!("Inside of container {}, these processes are all there are:", super::hostname());
    for (pid, line) in processes {
        println!("{pid:>5}  {line}");
    }
    Ok(())
}
