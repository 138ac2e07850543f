//! The ferry binary.
fn main() {
    println!("ferry");
}
