//! What the apps of the host run, and whether they can be graduated.

use super::wording::or_else_ok;
use crate::dokku::Dokku;
use crate::environment::Environment;
use crate::finding::{Check, Finding};
use crate::repo;
use crate::ssh::quoted;
use crate::vars::Vars;

/// Checks that each app's containers, branch and image agree.
pub(super) fn all(vars: &Vars) -> Vec<Finding> {
    let survey = match Environment::open(vars).and_then(|environment| environment.survey()) {
        Ok(survey) => survey,
        // Docker, the secret and the modes have checks of their own, with remedies.
        Err(error) => return vec![Finding::note(Check::Apps, format!("cannot see what runs: {error}"))],
    };
    let count = survey.here.len();
    let mut found = Vec::new();
    for each in &survey.uncarried {
        found.push(Finding::warning(
            Check::Apps,
            each.to_string(),
            format!("dokku apps:rename {} NAME", each.app),
        ));
    }
    for (app, here) in &survey.here {
        let remarks = here.status.remarks(app.as_str()).into_iter();
        found.extend(remarks.map(|remark| Finding::warning(Check::Apps, remark.found, remark.remedy)));
        if let Some(problem) = survey.unclear(app) {
            found.push(Finding::warning(Check::Apps, problem.to_string(), format!("dokku ps:rebuild {app}")));
        }
        let repository = Dokku::new(vars).repository(app);
        if let Some(why) = repo::unreadable(&repository) {
            let what = format!("the repository of {app} cannot be read: {why}");
            let remedy = format!("git --git-dir={} fsck", quoted(&repository.to_string_lossy()));
            found.push(Finding::warning(Check::Apps, what, remedy));
        }
        if let Some(broken) = &here.broken {
            found.push(Finding::warning(Check::Apps, broken.clone(), format!("dokku config:show {app}")));
        }
    }
    or_else_ok(found, Finding::ok(Check::Apps, format!("{count}, and each runs what is recorded of it")))
}
