//! Names, ids and beginnings of ids, as Docker accepts them.

use super::model::State;

/// The id of the container that `name` means.
pub(crate) fn container(state: &State, name: &str) -> Result<String, String> {
    let plain = name.strip_prefix('/').unwrap_or(name);
    let by_name = state.containers.iter().find(|(_, container)| container.recipe.name == plain);
    by_name
        .map(|(id, _)| id.clone())
        .or_else(|| by_prefix(state.containers.keys(), plain))
        .ok_or_else(|| format!("No such container: {name}"))
}

/// The id of the image that `name` means.
pub(crate) fn image(state: &State, name: &str) -> Result<String, String> {
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    state
        .tags
        .get(&tagged(name))
        .or_else(|| state.digests.get(name))
        .cloned()
        .or_else(|| by_prefix(state.images.keys(), id))
        .ok_or_else(|| format!("No such image: {name}"))
}

/// A name with its tag, `latest` if it has none.
pub(crate) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

/// A name that somebody gives an image: those with a digest are left to registries.
pub(crate) fn given(name: &str) -> Result<String, String> {
    match name.contains('@') {
        true => Err("refusing to create a tag with a digest reference".to_owned()),
        false => Ok(tagged(name)),
    }
}

/// The repository of a tagged name.
pub(crate) fn repository(tag: &str) -> &str {
    tag.rsplit_once(':').map_or(tag, |(repository, _)| repository)
}

fn by_prefix<'a>(mut ids: impl Iterator<Item = &'a String>, prefix: &str) -> Option<String> {
    let is_id = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    ids.find(|id| is_id && id.starts_with(prefix)).cloned()
}
