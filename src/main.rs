//! The one binary of the plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    dokku_graduate::main()
}
