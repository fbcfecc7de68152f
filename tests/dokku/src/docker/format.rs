//! The part of Go templates that people use with `docker inspect -f` and `docker ps --format`.

use serde_json::Value;

/// Fills `{{.A.B}}`, `{{json .A}}` and `{{index .A "key"}}` from a value.
pub(crate) fn fill(template: &str, value: &Value) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").ok_or("template parsing error: unclosed action")?;
        text.push_str(before);
        text.push_str(&evaluate(action.trim(), value)?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text.replace("\\t", "\t").replace("\\n", "\n"))
}

fn evaluate(action: &str, value: &Value) -> Result<String, String> {
    if let Some(path) = action.strip_prefix("json ") {
        return Ok(look_up(path.trim(), value)?.to_string());
    }
    if let Some(rest) = action.strip_prefix("index ") {
        let (path, key) = rest.trim().split_once(' ').ok_or("template error: index wants a key")?;
        let key = key.trim().trim_matches('"');
        return Ok(plain(&look_up(path, value)?[key]));
    }
    look_up(action, value).map(plain)
}

fn look_up<'a>(path: &str, value: &'a Value) -> Result<&'a Value, String> {
    let names = path.strip_prefix('.').ok_or_else(|| format!("template error: cannot read \"{path}\""))?;
    names.split('.').filter(|name| !name.is_empty()).try_fold(value, |value, name| {
        value.get(name).ok_or_else(|| format!("template error: map has no entry for key \"{name}\""))
    })
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let items: Vec<_> = map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            format!("map[{}]", items.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::fill;

    #[test]
    fn fills_fields_json_and_labels() {
        let value = json!({"Id": "a1", "State": {"Running": true}, "Config": {"Labels": {"x.y": "z"}}});
        assert_eq!(fill("{{.Id}} {{ .State.Running }}", &value).unwrap(), "a1 true");
        assert_eq!(fill("{{json .State}}", &value).unwrap(), r#"{"Running":true}"#);
        assert_eq!(fill(r#"{{ index .Config.Labels "x.y" }}"#, &value).unwrap(), "z");
        assert!(fill("{{.Nope}}", &value).is_err());
    }
}
