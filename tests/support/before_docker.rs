//! What goes wrong, or takes its time, in the Docker of a simulated host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::host::Host;

/// A script that a simulated host runs before each of its calls of `docker`, until this is dropped.
pub(crate) struct BeforeDocker {
    docker: PathBuf,
    whole: Vec<u8>,
}

impl BeforeDocker {
    /// Runs `script`, lines of shell, before what a call does; `exit` in it ends the call.
    pub(crate) fn on(host: &Host, script: &str) -> BeforeDocker {
        let docker = host.as_simulated().expect("only a simulated host").layout().bin().join("docker");
        let whole = fs::read(&docker).unwrap();
        let this = BeforeDocker { docker, whole };
        this.replace(&[b"#!/bin/sh\n", script.as_bytes(), b"\n", &this.whole].concat());
        this
    }

    /// The same, before a `docker tag` of the image that an app runs now.
    pub(crate) fn tags_image_of(host: &Host, app: &str, script: &str) -> BeforeDocker {
        let latest = format!("dokku/{app}:latest");
        let image = host.docker(&["image", "inspect", "--format", "{{.Id}}", &latest]).succeeds();
        BeforeDocker::on(host, &format!("case \"$1 $2\" in\n'tag {}')\n{script}\n;;\nesac", image.raw.trim()))
    }

    fn replace(&self, content: &[u8]) {
        let new = self.docker.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &self.docker).unwrap();
    }
}

impl Drop for BeforeDocker {
    fn drop(&mut self) {
        self.replace(&self.whole);
    }
}
