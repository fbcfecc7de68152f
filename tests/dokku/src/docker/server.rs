//! The daemon of a host: answers requests, watches containers, retires what is due, and runs the router.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::engine::{Answer, Engine};
use super::model::Request;
use super::processes;
use crate::layout::Layout;
use crate::outcome::{Context, Failure, Outcome};
use crate::{retire, router};

/// How often queued old containers are retired; Dokku's own timer does it every five minutes.
const RETIRE_EVERY: Duration = Duration::from_secs(5);

/// Runs until it is killed.
pub(crate) fn run(layout: Layout) -> Outcome {
    let engine = Arc::new(Engine::open(layout.clone()).map_err(Failure::new)?);
    router::start(&engine)?;
    processes::boot(&engine).map_err(Failure::new)?;
    let socket = layout.socket();
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).context(socket.display())?;
    let timer = Arc::clone(&engine);
    thread::spawn(move || {
        loop {
            thread::sleep(RETIRE_EVERY);
            if let Ok(Some(_lock)) = retire::lock(&timer.layout) {
                retire::retire_due(&timer, None);
            }
        }
    });
    for connection in listener.incoming().flatten() {
        let engine = Arc::clone(&engine);
        thread::spawn(move || serve(&engine, connection));
    }
    Ok(())
}

fn serve(engine: &Arc<Engine>, connection: UnixStream) {
    let Ok(reader) = connection.try_clone() else { return };
    let mut writer = connection;
    for line in BufReader::new(reader).lines() {
        let Ok(line) = line else { return };
        let answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => carry_out(engine, request),
            Err(error) => Err(error.to_string()),
        };
        let answer = match answer {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": error }),
        };
        // As one text: a value prints itself in pieces of a few bytes, each of which would be a message to whoever waits.
        if writer.write_all(format!("{answer}\n").as_bytes()).is_err() {
            return;
        }
    }
}

fn carry_out(engine: &Arc<Engine>, request: Request) -> Answer {
    match request {
        Request::Start { name } => processes::start(engine, &name),
        Request::Stop { name, timeout_s } => processes::stop(engine, &name, Duration::from_secs(timeout_s)),
        Request::Restart { name, timeout_s } => {
            processes::stop(engine, &name, Duration::from_secs(timeout_s))?;
            processes::start(engine, &name)
        }
        Request::Kill { name, signal } => processes::kill(engine, &name, &signal),
        Request::Pause { name, go_on } => processes::pause(engine, &name, go_on),
        Request::Wait { name } => processes::wait(engine, &name),
        Request::Remove { name, force, volumes } => processes::remove(engine, &name, force, volumes),
        Request::Retire { app } => {
            retire::retire_due(engine, app.as_deref());
            Ok(json!(null))
        }
        Request::RetireLater { app, after_s } => {
            let engine = Arc::clone(engine);
            thread::spawn(move || {
                thread::sleep(Duration::from_secs(after_s));
                retire::retire_due(&engine, Some(&app));
            });
            Ok(json!(null))
        }
        request => engine.answer(request),
    }
}
