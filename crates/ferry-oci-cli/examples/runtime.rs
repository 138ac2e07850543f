//! The command line by itself: links in seconds what the whole binary takes minutes for.

fn main() {
    let words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    std::process::exit(ferry_oci_cli::run("runc", &words));
}
