//! Tests of [`load`]: forms of the file, precedence, warnings and errors.

use std::time::Duration;

use super::*;
use crate::choice::RestartStrategyKind;

fn from_toml(text: &str) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    loaded.add(read_toml(text, Path::new("cluster.toml"))?)?;
    Ok(loaded)
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.to_string(), value.to_string())
}

#[test]
fn dotted_keys_quoted_keys_and_tables_mean_the_same() {
    let forms = [
        "\"execution.checkpointing.interval\" = \"5 s\"\n\"rest.port\" = 9000",
        "execution.checkpointing.interval = \"5 s\"\nrest.port = 9000",
        "[execution.checkpointing]\ninterval = \"5 s\"\n[rest]\nport = 9000",
        "[execution]\n\"checkpointing.interval\" = 5000\n[rest]\nport = \"9000\"",
    ];
    for form in forms {
        let loaded = from_toml(form).expect(form);
        assert_eq!(loaded.configuration.get(&keys::CHECKPOINT_INTERVAL), Duration::from_secs(5), "{form}");
        assert_eq!(loaded.configuration.get(&keys::REST_PORT), 9000, "{form}");
        assert!(loaded.warnings.is_empty(), "{form}");
    }
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_default() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("cluster.toml");
    std::fs::write(&file, "rest.port = 1\nrest.address = \"a\"\n[pipeline]\nname = \"file\"").expect("writable");
    let sources = Sources {
        file: Some(file.clone()),
        environment: vec![variable("MILLSTREAM_REST__PORT", "2"), variable("MILLSTREAM_REST__ADDRESS", "b")],
        flags: vec!["rest.port=3".to_string()],
    };
    let configuration = load(&sources).expect("all values are valid").configuration;
    assert_eq!(configuration.get(&keys::REST_PORT), 3);
    assert_eq!(configuration.get(&keys::REST_ADDRESS), "b");
    assert_eq!(configuration.get(&keys::PIPELINE_NAME).as_deref(), Some("file"));
    assert_eq!(configuration.get(&keys::CHECKPOINT_INTERVAL), Duration::from_secs(1));
    let origin = |key| configuration.setting(key).map(|setting| setting.origin.clone());
    assert_eq!(origin("rest.port"), Some(Origin::Flag));
    assert_eq!(origin("rest.address"), Some(Origin::Environment("MILLSTREAM_REST__ADDRESS".to_string())));
    assert_eq!(origin("pipeline.name"), Some(Origin::File(file)));
    assert_eq!(origin("execution.checkpointing.interval"), None);
}

#[test]
fn every_key_has_a_variable_that_leads_back_to_it() {
    for key in keys::ALL {
        let variable = variable_of_key(key.name);
        assert_eq!(key_of_variable(&variable[ENVIRONMENT_PREFIX.len()..]), key.name);
    }
    assert_eq!(variable_of_key("restart-strategy.type"), "MILLSTREAM_RESTART_STRATEGY__TYPE");
}

#[test]
fn variables_of_other_programs_and_empty_ones_are_ignored() {
    let environment = vec![variable("PATH", "/bin"), variable("MILLSTREAM_REST__PORT", "")];
    let loaded = load(&Sources { environment, ..Sources::default() }).expect("nothing is set");
    assert_eq!(loaded, Loaded::default());
}

#[test]
fn unknown_keys_and_keys_of_flink_are_told_apart() {
    let environment =
        vec![variable("MILLSTREAM_KUBERNETES__ENV__SECRETKEYREF", "4"), variable("MILLSTREAM_REST_PORT", "9000")];
    let flags = vec!["execution.checkpointing.intervall=1 s".to_string()];
    let loaded = load(&Sources { environment, flags, ..Sources::default() }).expect("unknown keys are no error");
    let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "kubernetes.env.secretKeyRef (from the environment variable MILLSTREAM_KUBERNETES__ENV__SECRETKEYREF) is known to Flink, not used here; it has no effect",
            "unknown key rest-port (from the environment variable MILLSTREAM_REST_PORT) has no effect; did you mean rest.port?",
            "unknown key execution.checkpointing.intervall (from the flag -D) has no effect; did you mean execution.checkpointing.interval?",
        ]
    );
    assert_eq!(loaded.configuration.get(&keys::REST_PORT), 8081);
}

#[test]
fn earlier_names_count_and_yield_to_the_new_ones() {
    let loaded = from_toml("restart-strategy = \"off\"\n\"state.savepoints.dir\" = \"/a\"").expect("renamed");
    assert_eq!(loaded.configuration.get(&keys::RESTART_STRATEGY), RestartStrategyKind::None);
    assert_eq!(loaded.configuration.get(&keys::SAVEPOINT_DIR).as_deref(), Some("/a"));
    assert_eq!(loaded.warnings.len(), 2);
    let both = "state.savepoints.dir = \"/a\"\nexecution.checkpointing.savepoint-dir = \"/b\"";
    let loaded = from_toml(both).expect("renamed");
    assert_eq!(loaded.configuration.get(&keys::SAVEPOINT_DIR).as_deref(), Some("/b"));
}

#[test]
fn a_bad_value_names_the_place_it_was_given() {
    let flag = load(&Sources { flags: vec!["rest.port=x".to_string()], ..Sources::default() });
    assert!(flag.expect_err("not a port").to_string().contains("from the flag -D"));
    let environment = vec![variable("MILLSTREAM_EXECUTION__CHECKPOINTING__MIN_PAUSE", "soon")];
    let error = load(&Sources { environment, ..Sources::default() }).expect_err("not a duration").to_string();
    assert!(error.contains("MILLSTREAM_EXECUTION__CHECKPOINTING__MIN_PAUSE"), "{error}");
    assert!(error.contains("'soon'") && error.contains("10 min"), "{error}");
    let error = from_toml("[execution.checkpointing]\nnum-retained = 1").expect_err("too few").to_string();
    assert!(error.contains("cluster.toml") && error.contains("from 2"), "{error}");
}

#[test]
fn broken_files_and_flags_are_refused_with_the_reason() {
    assert!(matches!(from_toml("rest.port = "), Err(Error::NotToml { .. })));
    assert!(matches!(from_toml("\"rest.port\" = 1\n[rest]\nport = 2"), Err(Error::SetTwice { .. })));
    assert!(matches!(from_toml("[[pipeline.name]]\na = 1"), Err(Error::NotAValue { .. })));
    let missing = load(&Sources { file: Some("no/such/file.toml".into()), ..Sources::default() });
    assert!(matches!(missing, Err(Error::Unreadable { .. })));
    let flag = load(&Sources { flags: vec!["rest.port".to_string()], ..Sources::default() });
    assert!(matches!(flag, Err(Error::BadFlag { .. })));
}
