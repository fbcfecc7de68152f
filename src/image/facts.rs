//! What a build detects in addition to the image. Dokku receives it again where an image replaces a build.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::names;

/// The largest number of ports of one app.
const MAX_PORTS: usize = 64;

/// What a build has detected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildFacts {
    /// The builder of Dokku's that was used.
    #[serde(deserialize_with = "builder")]
    pub builder: String,
    /// The detected ports, as `http:80:5000`; none if the builder detects none.
    #[serde(deserialize_with = "ports")]
    pub ports: Option<Vec<String>>,
}

fn builder<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    names::check_word("the name of a builder", &name).map_err(D::Error::custom)?;
    Ok(name)
}

fn ports<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let ports = Option::<Vec<String>>::deserialize(from)?;
    let all = ports.as_deref().unwrap_or_default();
    if all.len() > MAX_PORTS || !all.iter().all(|port| is_port_mapping(port)) {
        return Err(D::Error::custom("ports are written as http:80:5000"));
    }
    Ok(ports)
}

/// Reports whether the text has Dokku's form: scheme, host port, container port.
fn is_port_mapping(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let [scheme, host, container] = parts.as_slice() else { return false };
    let is_scheme = (1..=16).contains(&scheme.len()) && scheme.bytes().all(|byte| byte.is_ascii_lowercase());
    is_scheme && [host, container].iter().all(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dokku_would_not_write_is_refused() {
        let read = |ports: &str| {
            serde_json::from_str::<BuildFacts>(&format!(r#"{{"builder":"dockerfile","ports":{ports}}}"#))
        };
        for good in ["null", "[]", r#"["http:80:5000","https:443:5000"]"#] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in
            [r#"["80:5000"]"#, r#"["http:80:5000 x:1:1"]"#, r#"["http:80:70000"]"#, r#"["$(id):80:1"]"#]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<BuildFacts>(r#"{"builder":"a b","ports":null}"#).is_err());
    }
}
