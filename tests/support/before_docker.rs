//! What goes wrong, or takes its time, in the Docker of a host.

use super::host::Host;

/// A script that a host runs before each of its calls of `docker`, until this is dropped.
pub(crate) struct BeforeDocker<'a>(&'a Host);

/// Puts the whole `docker` back, if it is not in its place.
pub(super) const PUT_BACK: &str =
    "docker=$(command -v docker); [ ! -e $docker.whole ] || mv $docker.whole $docker";

impl<'a> BeforeDocker<'a> {
    /// Runs `script`, lines of shell, before what a call does; `exit` in it ends the call.
    pub(crate) fn on(host: &'a Host, script: &str) -> BeforeDocker<'a> {
        let replace = "docker=$(command -v docker); ln $docker $docker.whole && cat >$docker.new && \
                       echo \"exec $docker.whole \\\"\\$@\\\"\" >>$docker.new && \
                       chmod 755 $docker.new && mv $docker.new $docker";
        host.root_with_input(replace, format!("#!/bin/sh\n{script}\n").as_bytes()).succeeds();
        BeforeDocker(host)
    }

    /// The same, before a `docker tag` of the image that an app runs now.
    pub(crate) fn tags_image_of(host: &'a Host, app: &str, script: &str) -> BeforeDocker<'a> {
        let latest = format!("dokku/{app}:latest");
        let image = host.docker(&["image", "inspect", "--format", "{{.Id}}", &latest]).succeeds();
        BeforeDocker::on(host, &format!("case \"$1 $2\" in\n'tag {}')\n{script}\n;;\nesac", image.raw.trim()))
    }
}

impl Drop for BeforeDocker<'_> {
    fn drop(&mut self) {
        self.0.root(PUT_BACK);
    }
}
