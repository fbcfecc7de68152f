//! The host's web server, in nginx's place: it passes requests on to what `nginx.conf` of the app names.
//!
//! That file is read for each request, so a switch takes effect with the next one; a request that is being
//! answered keeps its container.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::docker::engine::Engine;
use crate::files::random_port;
use crate::layout::Layout;
use crate::outcome::{Context, Outcome};

/// Listens on the host's own port, the same one after each start.
pub(crate) fn start(engine: &Arc<Engine>) -> Outcome {
    let file = engine.layout.run().join("router-port");
    let known = fs::read_to_string(&file).ok().and_then(|port| port.trim().parse::<u16>().ok());
    let listener = match known {
        Some(port) => TcpListener::bind(("127.0.0.1", port)),
        None => (0..100)
            .find_map(|_| TcpListener::bind(("127.0.0.1", random_port().ok()?)).ok())
            .ok_or_else(no_port),
    };
    let listener = listener.context("cannot start the router")?;
    fs::write(file, listener.local_addr()?.port().to_string())?;
    let engine = Arc::clone(engine);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let engine = Arc::clone(&engine);
            thread::spawn(move || pass_on(&engine, client));
        }
    });
    Ok(())
}

fn no_port() -> io::Error {
    io::Error::other("no free port")
}

fn pass_on(engine: &Engine, mut client: TcpStream) -> io::Result<()> {
    let (head, host, length) = read_head(&client)?;
    let rest = length.saturating_sub(head.body.len() as u64);
    // The container that the file names now is not retired before it has answered.
    let _request = engine.requests.read();
    if let Some(mut server) = upstream(&engine.layout, &host)
        && answer(&head, rest, &mut server, &mut client)?
    {
        return Ok(());
    }
    let body = "502 Bad Gateway\n";
    let length = body.len();
    write!(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// Passes the request to a container and its answer back; false if there was none.
fn answer(head: &Head, rest: u64, server: &mut TcpStream, client: &mut TcpStream) -> io::Result<bool> {
    let mut ask = || {
        server.write_all(head.text.as_bytes())?;
        server.write_all(&head.body)?;
        io::copy(&mut client.try_clone()?.take(rest), server)
    };
    let mut first = [0; 8192];
    let read = match ask().and_then(|_| server.read(&mut first)) {
        Ok(read @ 1..) => read,
        Ok(0) | Err(_) => return Ok(false),
    };
    client.write_all(&first[..read])?;
    io::copy(server, client)?;
    Ok(true)
}

struct Head {
    text: String,
    /// What has already been read of the body.
    body: Vec<u8>,
}

/// The request's head with `Connection: close` in it, its host, and the length of its body.
fn read_head(client: &TcpStream) -> io::Result<(Head, String, u64)> {
    let mut reader = BufReader::new(client);
    let (mut text, mut host, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "host" => host = value.trim().split(':').next().unwrap_or_default().to_owned(),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "connection" => continue,
            _ => {}
        }
        text.push_str(&line);
    }
    text.push_str("Connection: close\r\n\r\n");
    let body = reader.buffer().to_vec();
    Ok((Head { text, body }, host, length))
}

/// A connection to one of the containers that the app's `nginx.conf` names.
fn upstream(layout: &Layout, host: &str) -> Option<TcpStream> {
    let apps = fs::read_dir(layout.home()).ok()?.flatten();
    let files = apps.filter_map(|app| fs::read_to_string(app.path().join("nginx.conf")).ok());
    let config =
        files.into_iter().find(|config| words_after(config, "server_name").any(|name| name == host))?;
    let mut servers: Vec<String> = words_after(&config, "server").filter(|name| name.contains(':')).collect();
    if servers.len() > 1 {
        let turn = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.subsec_micros() as usize);
        let turn = turn % servers.len();
        servers.rotate_left(turn);
    }
    servers
        .iter()
        .find_map(|address| TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(5)).ok())
}

/// The words that follow a directive, over all lines.
fn words_after(config: &str, directive: &str) -> impl Iterator<Item = String> {
    let lines = config.lines().filter_map(move |line| {
        let (name, rest) = line.trim().split_once(' ')?;
        (name == directive).then(|| rest.trim_end_matches(';'))
    });
    lines.flat_map(str::split_whitespace).map(str::to_owned)
}
