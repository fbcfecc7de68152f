//! Asks the daemon.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::model::Request;
use crate::layout::Layout;
use crate::outcome::{Failure, Outcome};

/// Asks the daemon of the host one thing.
pub(crate) fn ask(layout: &Layout, request: &Request) -> Outcome<Value> {
    let socket = layout.socket();
    let mut stream = UnixStream::connect(&socket).map_err(|_| {
        let place = socket.display();
        Failure::new(format!(
            "Cannot connect to the Docker daemon at unix://{place}. Is the docker daemon running?"
        ))
    })?;
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let mut answer: Value = serde_json::from_str(&line)?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(Failure::new(error)),
        None => Ok(answer["ok"].take()),
    }
}

/// The description of a container, if there is one of that name.
pub(crate) fn container(layout: &Layout, name: &str) -> Outcome<Option<Value>> {
    inspect(layout, name, true)
}

/// The description of an image, if there is one of that name.
pub(crate) fn image(layout: &Layout, name: &str) -> Outcome<Option<Value>> {
    inspect(layout, name, false)
}

fn inspect(layout: &Layout, name: &str, container: bool) -> Outcome<Option<Value>> {
    let names = vec![name.to_owned()];
    let mut found = ask(layout, &Request::Inspect { names, containers: container, images: !container })?;
    Ok(Some(found[0].take()).filter(|found| !found.is_null()))
}

/// The ids of all containers with this value of a label.
pub(crate) fn labelled(layout: &Layout, label: &str, value: &str) -> Outcome<Vec<Value>> {
    let all = ask(layout, &Request::Containers)?;
    let Value::Array(all) = all else { return Ok(Vec::new()) };
    Ok(all.into_iter().filter(|container| container["Config"]["Labels"][label] == value).collect())
}
