//! The one program behind a simulated host; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let status = simulated_dokku::run(std::env::args().skip(1).collect());
    ExitCode::from(u8::try_from(status).unwrap_or(1))
}
