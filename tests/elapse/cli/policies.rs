//! Policies with parameters, from files, flags and programs; and the schema that describes what files may say.

use super::flags::{printed, said, with_scenario};
use super::{elapse, scratch};
use std::path::Path;

/// A policy of a program's own, under a name of its own: told, completed and checked like ours.
#[test]
fn a_policy_from_outside_is_named_like_ours() {
    use elapse::base::Member;
    use elapse::keys::words_of;
    use elapse::worker::eviction::{self, Eviction, Idle};
    use elapse::{Overrides, Run, load_plan};
    #[derive(Clone)]
    struct Youngest;
    impl Eviction for Youngest {
        fn name(&self) -> &str {
            "youngest"
        }
        fn priority(&mut self, idle: &Idle) -> f64 {
            -idle.since.as_secs_f64()
        }
    }
    eviction::add(Member::plain("youngest", |_| Ok(Box::new(Youngest)))).unwrap();
    let dir = with_scenario("outside");
    let file = dir.join("s.toml");
    let flag = |name: &str| {
        let mut overrides = Overrides::default();
        overrides.flag("--eviction", "worker.eviction", name);
        load_plan(Some(&file), None, &overrides)
    };
    for name in ["youngest", "Youngest"] {
        let run = Run::new(flag(name).unwrap()).simulate().unwrap();
        assert_eq!(run.summary.workers[0].policies.eviction, "youngest");
    }
    let said = flag("yongest").unwrap_err().to_string();
    assert!(said.contains("--eviction yongest") && said.contains("did you mean 'youngest'?"), "{said}");
    assert!(words_of("worker.eviction").contains(&"youngest"));
    let said = eviction::add(Member::plain("lru", |_| Ok(Box::new(Youngest)))).unwrap_err().to_string();
    assert!(said.contains("there is already") && said.contains("'lru'"), "{said}");
}

/// The schema has every key that `--print-plan` shows, and lets every shipped scenario pass.
#[test]
fn a_schema_describes_what_files_may_say() {
    use serde_json::Value;
    /// What of a file a schema does not allow, by path.
    fn wrong(schema: &Value, found: &Value, path: &str, all: &mut Vec<String>) {
        if let Some(forms) = schema["anyOf"].as_array() {
            let fits = |form: &Value| {
                let mut wrongs = Vec::new();
                wrong(form, found, path, &mut wrongs);
                wrongs.is_empty()
            };
            if !forms.iter().any(fits) {
                all.push(format!("{path}: none of the forms"));
            }
            return;
        }
        if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(found)) {
            all.push(format!("{path}: {found} is none of {words:?}"));
        }
        let is = |kind: &str| schema["type"] == kind;
        match found {
            Value::Object(table) if is("object") => {
                let (known, must) = (&schema["properties"], schema["required"].as_array());
                for (key, value) in table {
                    match known.get(key) {
                        Some(schema) => wrong(schema, value, &format!("{path}.{key}"), all),
                        None => all.push(format!("{path}: no key {key}")),
                    }
                }
                let lacks =
                    must.into_iter().flatten().filter(|key| !table.contains_key(key.as_str().unwrap()));
                all.extend(lacks.map(|key| format!("{path} lacks {}", key.as_str().unwrap())));
            }
            Value::Array(list) if is("array") => {
                list.iter().for_each(|value| wrong(&schema["items"], value, path, all));
            }
            _ if is("object") || is("array") || is("string") && !found.is_string() => {
                all.push(format!("{path}: {found} is no {}", schema["type"]));
            }
            _ => {}
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of =
        |what: &str| -> Value { serde_json::from_str(&printed(&elapse(&["schema", what], root))).unwrap() };
    let schema = of("scenario");
    let mut files = 0;
    for file in std::fs::read_dir(root.join("scenarios")).unwrap().flatten().map(|entry| entry.path()) {
        let Ok(table) = std::fs::read_to_string(&file).unwrap().parse::<toml::Table>() else { continue };
        let (mut all, mut plan) = (Vec::new(), serde_json::to_value(&table).unwrap());
        // A date of TOML is a text to a schema.
        if let Some(start) = plan.get_mut("start") {
            *start = "an instant".into();
        }
        wrong(&schema, &plan, "", &mut all);
        assert!(all.is_empty(), "{}: {all:?}", file.display());
        files += 1;
    }
    assert!(files >= 5, "{files}");
    let plan = serde_json::json!({"name": "x", "records": "sample:0.05", "worker": {"memory": "1GiB", "keep_alive": "4s"}});
    let mut all = Vec::new();
    wrong(&schema, &plan, "", &mut all);
    assert_eq!(all, Vec::<String>::new());
    for (text, why) in [
        ("nmae = 'x'", "no key nmae"),
        ("name = 'x'\n[worker]\nmemory = '1GiB'\neviction = 'lur'", ".worker.eviction: none of the forms"),
        (
            "name = 'x'\n[worker]\nmemory = '1GiB'\neviction = { policy = 'greedy-dual', csot = 1 }",
            ".worker.eviction",
        ),
        ("name = 'x'\n[worker]\ndispatch = 'never'", ".worker lacks memory"),
        ("name = 'x'\n[[function]]\nname = 'f'", ".function lacks memory"),
    ] {
        let plan = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
        let mut all = Vec::new();
        wrong(&schema, &plan, "", &mut all);
        assert!(all.iter().any(|w| w.contains(why)), "{text}: {all:?}");
    }
    assert_eq!(of("worker")["properties"]["on_boot"]["enum"], serde_json::json!(["clean", "recover"]));
    assert!(of("controller")["properties"]["attempt_timeout"]["description"].is_string());
}

/// A policy's parameters: in a table, typed, each refused by a sentence that says where, why and what there is.
#[test]
fn a_policy_has_parameters_in_a_table() {
    use elapse::{Overrides, Run, load_plan};
    let dir = scratch("policy-tables");
    let file = dir.join("s.toml");
    let scenario = |eviction: &str| {
        let text = format!(
            "name = 'x'\ninvocations = 3000\nduration = '1h'\n[worker]\nmemory = '1GiB'\neviction = {eviction}\n[[function]]\nname = 'f'\n\
             memory = '200MiB'\ncount = 12\nduration = '100ms'\ncold_start = {{ exponential = {{ mean = '2s' }} }}\n\
             load = {{ poisson = '0.5/s', zipf = 1.0 }}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    let run = |over: &str| {
        let mut overrides = Overrides::default();
        if !over.is_empty() {
            overrides.set(over).unwrap();
        }
        load_plan(Some(&file), None, &overrides).map(|plan| Run::new(plan).simulate().unwrap())
    };
    scenario("'greedy-dual'");
    let bare = run("").unwrap();
    scenario("{ policy = 'greedy-dual' }");
    assert_eq!(run("").unwrap().summary.result_hash, bare.summary.result_hash);
    scenario("{ policy = 'Greedy-Dual', cost = 'cold-start' }");
    assert_eq!(run("").unwrap().summary.result_hash, bare.summary.result_hash);
    scenario("{ policy = 'greedy-dual', cost = 'uniform' }");
    let uniform = run("").unwrap();
    assert_ne!(uniform.summary.result_hash, bare.summary.result_hash);
    assert_eq!(uniform.summary.workers[0].policies.eviction, "greedy-dual (cost uniform)");
    assert!(uniform.summary.methods().contains("cost uniform"), "{}", uniform.summary.methods());
    // A flag goes over the table, and a table goes over a word.
    assert_eq!(run("worker.eviction=greedy-dual").unwrap().summary.result_hash, bare.summary.result_hash);
    scenario("'lru'");
    let over = run("worker.eviction={ policy = \"greedy-dual\", cost = \"uniform\" }").unwrap();
    assert_eq!(over.summary.result_hash, uniform.summary.result_hash);
    for (eviction, says) in [
        (
            "{ policy = 'greedy-dual', csot = 'uniform' }",
            "has no parameter 'csot'; did you mean 'cost'? (known: cost)",
        ),
        (
            "{ policy = 'greedy-dual', cost = 'unifrom' }",
            "cost: unknown word 'unifrom'; did you mean 'uniform'?",
        ),
        ("{ policy = 'greedy-dual', cost = 3 }", "eviction policy 'greedy-dual': cost: "),
        ("{ policy = 'lru', cost = 'uniform' }", "eviction policy 'lru' has no parameters, so no 'cost'"),
        ("{ policy = 'greedy-daul' }", "unknown eviction policy 'greedy-daul'; did you mean 'greedy-dual'?"),
        ("{ cost = 'uniform' }", "the table of a policy names none; write for instance { policy = \"lru\" }"),
        ("3", "3"),
    ] {
        scenario(eviction);
        let said = run("").err().expect(eviction).to_string();
        assert!(said.contains("s.toml") && said.contains(says), "{eviction}: {said}");
    }
    scenario("'lru'");
    for (balancer, says) in
        [("bound = 0.5", "bound is 0.5; below 1"), ("slack = -1", "slack is -1"), ("bound = 'x'", "bound: ")]
    {
        let over = format!("controller.balancer={{ policy = \"locality\", {balancer} }}");
        let said = run(&over.replace('\'', "\"")).err().expect("refused").to_string();
        assert!(said.contains("--set") && said.contains(says), "{balancer}: {said}");
    }
}

/// What is typed behind a flag may be a table, as in a file.
#[test]
fn a_flag_takes_a_policy_with_its_parameters() {
    let dir = with_scenario("policy-flags");
    let run = |flags: &[&str]| {
        let all = [&["sim", "s.toml", "--print-plan"][..], flags].concat();
        let output = elapse(&all, &dir);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), said(&output))
    };
    let (code, plan, _) = run(&[
        "--eviction",
        "{ policy = 'greedy-dual', cost = 'uniform' }",
        "--keep-alive",
        "{ policy = 'fixed', ttl = '4s' }",
    ]);
    assert!(
        code == Some(0) && plan.contains("cost = \"uniform\"") && plan.contains("ttl = \"4s\""),
        "{plan}"
    );
    for (flags, says) in [
        (
            ["--eviction", "{ policy = 'greedy-dual', cost = 'unifrm' }"],
            "cost: unknown word 'unifrm'; did you mean 'uniform'?",
        ),
        (["--keep-alive", "5mim"], "--keep-alive 5mim: it has the unknown unit 'mim'"),
        (
            ["--keep-alive", "fixt"],
            "--keep-alive fixt: unknown keep-alive policy 'fixt'; did you mean 'fixed'?",
        ),
    ] {
        let (code, _, told) = run(&flags);
        assert!(code == Some(2) && told.contains(says), "{flags:?}: {told}");
    }
}
