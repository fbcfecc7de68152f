//! A connection that can stop forwarding without closing: a small TCP proxy.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Forwards connections to a port of this machine, until it is frozen.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How many times it was frozen and thawed.
    times: Mutex<(u64, u64)>,
    thawed: Condvar,
}

impl Proxy {
    /// Starts to forward.
    pub(crate) fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let since = shared.times.lock().unwrap().0;
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let state = Arc::clone(&shared);
                    thread::spawn(move || state.forward(from, to, since));
                }
            }
        });
        Proxy { port: own, state }
    }

    /// The address of what is behind it, by way of it.
    pub(crate) fn instead_of(&self, url: &str) -> String {
        let (host, _) = url.rsplit_once(':').expect("the address of a simulated host has a port");
        format!("{host}:{}", self.port)
    }

    /// Connections that are open now carry nothing more; new ones do.
    pub(crate) fn freeze(&self) {
        self.state.times.lock().unwrap().0 += 1;
    }

    /// Connections that were frozen are closed.
    pub(crate) fn thaw(&self) {
        let mut times = self.state.times.lock().unwrap();
        times.1 = times.0;
        self.state.thawed.notify_all();
    }
}

impl State {
    /// Forwards one direction of a connection that was made after it was frozen `since` times.
    fn forward(&self, mut from: TcpStream, mut to: TcpStream, since: u64) {
        let mut buffer = [0; 16384];
        let mut open = true;
        while open {
            let count = from.read(&mut buffer).unwrap_or(0);
            let times = self.times.lock().unwrap();
            if times.0 > since {
                drop(self.thawed.wait_while(times, |times| times.1 <= since));
                break;
            }
            drop(times);
            open = count > 0 && to.write_all(&buffer[..count]).is_ok();
        }
        let _ = to.shutdown(if open { Shutdown::Both } else { Shutdown::Write });
        if open {
            let _ = from.shutdown(Shutdown::Both);
        }
    }
}
