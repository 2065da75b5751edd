//! What a reader has to know before the figures of a run.

use serde_json::Value;

/// Tells it from a `summary.json`.
pub fn warnings(json: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if json["interrupted"] == true {
        warnings.push("The run was interrupted: these are the figures up to then.".to_string());
    }
    if json["unstable"] == true {
        let busy = json["offered_load"].as_f64().unwrap_or(0.0);
        let share = json["offered_load_share"].as_f64();
        let share = share.map_or(String::new(), |s| format!(", {:.0} % of them", s * 100.0));
        warnings.push(format!(
            "Unstable: the queue still grew when arrivals ended. The load asks for {busy:.2} cores{share}; waiting times say \
             more about the length of the run than about the policy."
        ));
    }
    let remarks = json["remarks"].as_array().into_iter().flatten();
    warnings.extend(remarks.filter_map(|r| r.as_str().map(str::to_string)));
    let notes = json["trace_notes"].as_object().into_iter().flatten();
    warnings.extend(notes.map(|(kind, n)| format!("Trace: {n} {kind}.")));
    warnings
}
