//! The listeners of this host, read from the kernel: proc(5), `/proc/net/tcp` and the like.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The protocols for which Docker publishes ports and the kernel lists listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The protocol as Docker writes it.
    pub(crate) fn of(text: &str) -> Option<Self> {
        match text {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            _ => None,
        }
    }
}

/// A port in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// The address; an unspecified one stands for all addresses.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl Listener {
    /// Address and port.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// All listeners of this host.
pub(crate) fn listeners() -> Vec<Listener> {
    let tables = [
        ("/proc/net/tcp", Protocol::Tcp, "0A"),
        ("/proc/net/tcp6", Protocol::Tcp, "0A"),
        ("/proc/net/udp", Protocol::Udp, "07"),
        ("/proc/net/udp6", Protocol::Udp, "07"),
    ];
    let read = |(path, protocol, state): (&str, Protocol, &str)| {
        let table = fs::read_to_string(path).unwrap_or_default();
        table.lines().filter_map(|line| listener(line, protocol, state)).collect::<Vec<_>>()
    };
    tables.into_iter().flat_map(read).collect()
}

fn listener(line: &str, protocol: Protocol, state: &str) -> Option<Listener> {
    let mut columns = line.split_whitespace().skip(1);
    let (local, found) = (columns.next()?, columns.nth(1)?);
    let (ip, port) = local.split_once(':')?;
    (found == state).then_some(())?;
    Some(Listener { ip: address(ip)?, port: u16::from_str_radix(port, 16).ok()?, protocol })
}

/// Parses words of 32 bits, each in the machine's byte order.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (index, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(index * 8)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_kernel_says_who_listens() {
        for ip in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let Ok(socket) = TcpListener::bind(ip) else { continue };
            let address = socket.local_addr().unwrap();
            let wanted = Listener { ip: address.ip(), port: address.port(), protocol: Protocol::Tcp };
            assert!(listeners().contains(&wanted), "{address}");
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let wanted = Listener { ip: address.ip(), port: address.port(), protocol: Protocol::Udp };
        assert!(listeners().contains(&wanted));
        assert!(!listeners().iter().any(|one| one.port == 0));
    }
}
