//! The one program behind a simulated host; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    let status = simulated_dokku::run(&program, args.collect());
    ExitCode::from(u8::try_from(status).unwrap_or(1))
}
