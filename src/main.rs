//! The one binary of the plugin.
fn main() {}
