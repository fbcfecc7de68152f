//! `registry:set`, and the repository under whose name an app is started.

use crate::call::Call;
use crate::docker::client::ask;
use crate::docker::model::Request;
use crate::outcome::{Failure, Outcome, line};
use crate::properties::Properties;

/// Runs one program of the plugin.
pub(super) fn run(call: &Call, file: &str) -> Outcome {
    match file {
        "set" => {
            let properties = Properties::of(&call.layout, "registry", call.arg(1));
            properties.set_or_unset(call.arg(2), call.arg(3))
        }
        "deployed-app-image-repo" => {
            line(image_repo(call, call.arg(0)));
            Ok(())
        }
        "post-release-builder" => {
            announce_pre_deploy(call)?;
            tag(call, call.arg(1), call.arg(2))
        }
        "post-app-rename-setup" => super::settings::take_over(call, "registry"),
        "post-delete" => super::settings::forget(call, "registry"),
        _ => Err(Failure::new(format!("registry/{file} is not simulated"))),
    }
}

/// The repository of the app's images, from which it is started.
pub(super) fn image_repo(call: &Call, app: &str) -> String {
    let set = Properties::of(&call.layout, "registry", app).get("image-repo");
    set.unwrap_or_else(|| format!("dokku/{app}"))
}

/// It is what fires `pre-deploy`.
fn announce_pre_deploy(call: &Call) -> Outcome {
    let tag = call.arg(2).rsplit(':').next().unwrap_or("latest");
    if call.triggers("pre-deploy")?.is_empty() {
        Ok(())
    } else {
        call.trigger("pre-deploy", &[call.arg(1), tag])
    }
}

fn tag(call: &Call, app: &str, image: &str) -> Outcome {
    let tag = image.rsplit(':').next().unwrap_or("latest");
    let target = format!("{}:{tag}", image_repo(call, app));
    if target == image {
        return Ok(());
    }
    ask(&call.layout, &Request::Tag { source: image.to_owned(), target }).map(drop)
}
