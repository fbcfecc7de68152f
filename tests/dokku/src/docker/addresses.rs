//! The network of a host's containers: each running one has an address of its own in 127.0.0.0/8, and all serve at
//! the same port, as on a real host.
//!
//! Hosts share the machine's loopback device, so each takes a range `127.x.y.0/24` for itself. A socket in the
//! abstract namespace, which has the same scope as the addresses, marks the range as taken for as long as the daemon
//! lives, and leaves nothing behind.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;

use super::model::State;
use crate::files;
use crate::layout::Layout;

/// The variable by which a container's servers know the container's address.
pub(super) const ADDRESS_VARIABLE: &str = "SIMULATED_ADDRESS";

/// A container's network has one address. Here it has those of all others, too, so busybox' servers are told which
/// one to listen at.
const SERVER: &str = r#"#!/bin/sh
if [ "$1" = httpd ]; then
    for word; do
        shift
        [ "$previous" != -p ] || word=${SIMULATED_ADDRESS:+$SIMULATED_ADDRESS:}$word
        set -- "$@" "$word"
        previous=$word
    done
elif [ "$1" = nc ] && [ -n "$SIMULATED_ADDRESS" ]; then
    shift
    set -- nc -s "$SIMULATED_ADDRESS" "$@"
fi
PATH=${PATH#*:}
exec busybox "$@"
"#;

/// The port at which an app listens unless somebody says otherwise.
const USUAL_PORT: u16 = 5000;

/// The addresses of one host.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// The first two of the bytes that follow 127.
    range: [u8; 2],
    /// At which all web containers of the host serve.
    pub(crate) port: u16,
    _taken: UnixListener,
}

impl Addresses {
    /// Takes a range that no other host has.
    pub(crate) fn take(layout: &Layout) -> Result<Addresses, String> {
        write_server(layout).map_err(|error| format!("cannot write the containers' busybox: {error}"))?;
        for _ in 0..1000 {
            let [first, second] = files::random_pair().map_err(|error| error.to_string())?;
            // The machine itself uses addresses in 127.0.
            let name = format!("simulated-dokku/127.{first}.{second}");
            let Ok(socket) = SocketAddr::from_abstract_name(&name) else { continue };
            let Ok(taken) = UnixListener::bind_addr(&socket) else { continue };
            if first > 0 {
                let range = [first, second];
                return Ok(Addresses { range, port: usual_or_free_port(range)?, _taken: taken });
            }
        }
        Err("no free range of addresses".to_owned())
    }

    /// The lowest address that no running container has, as Docker hands them out.
    pub(super) fn free(&self, state: &State) -> Result<Ipv4Addr, String> {
        // The first one is that of the host's bridge.
        (2..=254)
            .map(|last| Ipv4Addr::new(127, self.range[0], self.range[1], last))
            .filter(|address| !is_used(state, *address))
            // Processes of a container that has just ended may still be about to go.
            .find(|address| TcpListener::bind((*address, self.port)).is_ok())
            .ok_or_else(|| "no free address".to_owned())
    }
}

fn is_used(state: &State, address: Ipv4Addr) -> bool {
    let mut running = state.containers.values().filter(|container| container.status.has_process());
    running.any(|container| container.address == Some(address))
}

/// The usual port, unless some program of this machine listens at it on all addresses.
fn usual_or_free_port([first, second]: [u8; 2]) -> Result<u16, String> {
    let bridge = Ipv4Addr::new(127, first, second, 1);
    let mut ports =
        std::iter::once(Ok(USUAL_PORT)).chain(std::iter::repeat_with(files::random_port)).take(1000);
    let free =
        |port: &io::Result<u16>| port.as_ref().is_ok_and(|port| TcpListener::bind((bridge, *port)).is_ok());
    match ports.find(free) {
        Some(Ok(port)) => Ok(port),
        _ => Err("no free port".to_owned()),
    }
}

/// Where containers find programs before all other places.
pub(super) fn programs(layout: &Layout) -> PathBuf {
    layout.docker().join("bin")
}

/// Writes the containers' own `busybox`.
fn write_server(layout: &Layout) -> io::Result<()> {
    let directory = programs(layout);
    fs::create_dir_all(&directory)?;
    let path = directory.join("busybox");
    fs::write(&path, SERVER)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
