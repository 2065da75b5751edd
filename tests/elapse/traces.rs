//! Traces of single invocations, the neutral pair and Ilúvatar's: dirt, compression, slices, scales, unix time.

use crate::common::{figure, has, replay, scratch, shared};
use elapse::base::{Compute, FunctionId, Mem};
use elapse::load::{Format, Notes, TraceConfig, Workload, open};
use elapse::rt::chance::{Purpose, Seed};
use std::io::Write;
use std::path::{Path, PathBuf};

const MS: u64 = 1_000_000;

/// Writes a neutral pair, headers included.
fn pair(name: &str, functions: &str, invocations: &str) -> TraceConfig {
    let folder = scratch(name);
    std::fs::write(folder.join("functions.csv"), format!("name,memory_mb,cold_ms,warm_ms\n{functions}"))
        .unwrap();
    std::fs::write(folder.join("invocations.csv"), format!("time_ms,function,duration_ms\n{invocations}"))
        .unwrap();
    TraceConfig::new(Format::Csv, vec![folder])
}

/// Writes Ilúvatar's pair.
fn iluvatar(name: &str, metadata: &str, invocations: &str) -> TraceConfig {
    let folder = scratch(name);
    std::fs::write(folder.join("m.csv"), metadata).unwrap();
    std::fs::write(folder.join("i.csv"), format!("func_name,invoke_time_ms\n{invocations}")).unwrap();
    TraceConfig::new(Format::Iluvatar, vec![folder])
}

/// An arrival in ns, the name of its function, its duration in ns.
type Call = (u64, String, u64);

fn drain(workload: &mut Workload) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    while let Some(call) = workload.source.next().map_err(|fault| fault.to_string())? {
        calls.push((call.arrival.0, workload.functions[call.function.index()].name.clone(), call.intended.0));
    }
    Ok(calls)
}

fn read(config: &TraceConfig) -> Result<(Vec<Call>, Notes), String> {
    let mut workload = open(config, 1).map_err(|fault| fault.to_string())?;
    let calls = drain(&mut workload)?;
    let notes = workload.notes.borrow().clone();
    Ok((calls, notes))
}

fn calls(config: &TraceConfig) -> Vec<Call> {
    read(config).unwrap().0
}

fn arrivals(config: &TraceConfig) -> Vec<u64> {
    calls(config).into_iter().map(|call| call.0).collect()
}

#[track_caller]
fn says(config: &TraceConfig, parts: &[&str]) {
    let said = read(config).expect_err("a fault");
    parts.iter().for_each(|part| assert!(said.contains(part), "'{part}' is not in: {said}"));
}

fn counted(notes: &Notes, kind: &str) -> u64 {
    notes.dirty.iter().find(|(k, _)| k == kind).map_or(0, |(_, n)| *n)
}

#[test]
fn the_neutral_pair_is_strict() {
    const F: &str = "f,128,100,10\n";
    for (functions, invocations, parts) in [
        // Decimal commas.
        (F, "0,f,1,5\n100,f,2,5\n", &["invocations.csv: line 2", "the row has 4 of 3 columns"][..]),
        (F, "0,f,1\n100,f\n", &["line 3", "2 of 3 columns", "truncated"]),
        ("f,128,100,10,\n", "0,f,1\n", &["functions.csv: line 2", "5 of 4 columns"]),
        (",128,100,10\n", "0,f,1\n", &["functions.csv: line 2", "no name"]),
        // Instants and durations beyond a century.
        (F, "4611686018427.387,f,1000\n", &["line 2", "time_ms '4611686018427.387' is above 100 years"]),
        (F, "0,f,1\n3155760000000.000001,f,1\n", &["line 3", "above 100 years"]),
        (F, "1e300,f,1\n", &["line 2", "above 100 years"]),
        (F, "0,f,3155760000001\n", &["line 2", "duration_ms", "above 100 years"]),
        ("f,128,1e15,10\n", "0,f,1\n", &["functions.csv: line 2", "cold_ms", "above 100 years"]),
        ("f,128,1,1e15\n", "0,f,1\n", &["functions.csv: line 2", "warm_ms", "above 100 years"]),
        ("f,1e15,1,1\n", "0,f,1\n", &["functions.csv: line 2", "memory_mb", "too large"]),
    ] {
        says(&pair("strict", functions, invocations), parts);
    }
    // Many rows, so that they are read in one pass up to the wrong one.
    let rows: String = (0..1000).map(|i| format!("{i},f,1\n")).collect();
    for (row, part) in [
        ("1000,f,1,5\n", "line 1002: the row has 4 of 3 columns"),
        ("4611686018427.387,f,1\n", "line 1002: time_ms '4611686018427.387' is above 100 years"),
        ("1000,f,3155760000001\n", "line 1002: duration_ms '3155760000001' is above 100 years"),
    ] {
        says(&pair("strict-later", F, &format!("{rows}{row}{rows}")), &[part]);
    }
    let header = |text: &str| {
        let config = pair("header", F, "");
        std::fs::write(config.paths[0].join("invocations.csv"), text).unwrap();
        config
    };
    says(
        &header("time_ms,function,duration_ms,function\n0,f,1,f\n"),
        &["line 1", "'function' is there twice"],
    );
    says(&header("time_ms,function,duration_ms,x,x\n0,f,1,,\n"), &["line 1", "'x' is there twice"]);
    says(
        &header("time_ms;function;duration_ms\n0;f;1,5\n"),
        &["line 1", "separated by semicolons", "commas"],
    );
    says(&header("time_ms\tfunction\tduration_ms\n0\tf\t1\n"), &["line 1", "separated by tabs"]);
    let (calls, notes) = read(&header("time_ms,function,duration_ms,host\n0,f,1,a\n")).unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(notes.remarks, ["Columns that are not used: host of invocations.csv."]);
}

#[test]
fn spaces_around_fields_are_no_part_of_them() {
    let config =
        pair("spaces", " lead,128, 0 ,10\n in side ,128,0,7\n", "0, lead,5\n1 ,\tlead , 6 \n2, in side, \n");
    let want = [(0, "lead", 5), (1, "lead", 6), (2, "in side", 7)];
    assert_eq!(calls(&config), want.map(|(t, name, d)| (t * MS, name.to_string(), d * MS)));
}

#[test]
fn wrong_rows_can_be_counted_instead() {
    let mut config = pair(
        "skip",
        "f,128,1,10\nf,128,1,10\ng,x,1,1\n",
        "x,f,1\n5,f,1,5\n5,f,1\n4,f,1\n6,g,1\n7,f,-1\n8,f\n4611686018427.387,f,1\n9,f,2\n",
    );
    says(&config, &["functions.csv: line 3", "'f' is there twice"]);
    config.skip_bad = true;
    let (calls, notes) = read(&config).unwrap();
    assert_eq!(calls, [(5 * MS, "f".into(), MS), (9 * MS, "f".into(), 2 * MS)]);
    for (kind, n) in [
        ("wrong rows of the functions (left out)", 2),
        ("rows with more or fewer fields than the header (left out)", 2),
        ("rows with a bad time_ms (left out)", 2),
        ("rows before the one above (left out)", 1),
        ("rows of unknown functions (left out)", 1),
        ("rows with a bad duration_ms (left out)", 1),
    ] {
        assert_eq!(counted(&notes, kind), n, "{kind}: {:?}", notes.dirty);
    }
    let mut none = pair("skip-none", "f,128,1,10\n", "0,g,1\n1,g,1\n");
    none.skip_bad = true;
    says(&none, &["none of its rows can be used", "2 rows of unknown functions"]);
}

#[test]
fn unix_time_is_read_to_the_nanosecond_and_said() {
    const FIRST: u64 = 1_622_505_600_000 * MS;
    let rows = "1622505600000,f,5\n1622505600100.123456,f,5\n1622505601000,f,7\n";
    let config = pair("unix", "f,128,100,10\n", rows);
    let offsets = [0, 100_123_456, 1000 * MS];
    assert_eq!(arrivals(&config), offsets.map(|offset| FIRST + offset));
    let workload = open(&config, 1).unwrap();
    assert_eq!((workload.epoch, workload.begin, workload.end), (Some(0), None, None));
    let remarks = workload.notes.borrow().remarks.clone();
    assert!(remarks.iter().any(|r| r.contains("unix time, from 2021-06-01T00:00:00Z")), "{remarks:?}");
    // Spans count from the first row, times of day from its midnight.
    let cut = |from: Option<&str>, to: Option<&str>| {
        let mut config = config.clone();
        (config.from, config.to) = (from.map(str::to_string), to.map(str::to_string));
        let workload = open(&config, 1).unwrap();
        (arrivals(&config), workload.begin.map(|t| t.0), workload.end.map(|t| t.0), workload.epoch)
    };
    let second = 1000 * MS;
    assert_eq!(cut(Some("100ms"), None), (vec![123_456, 900 * MS], Some(0), None, Some(FIRST + 100 * MS)));
    assert_eq!(cut(Some("00:00:01"), Some("2s")), (vec![0], Some(0), Some(second), Some(FIRST + second)));
    assert_eq!(
        cut(None, Some("500ms")),
        (vec![FIRST, FIRST + 100_123_456], None, Some(FIRST + 500 * MS), Some(0))
    );
    // A clock of its own is not a date, whatever its first row.
    let own = pair("own", "f,128,100,10\n", "315575999999,f,5\n");
    assert_eq!(open(&own, 1).unwrap().epoch, None);
}

#[test]
fn a_slice_says_where_its_window_is() {
    let mut config = pair("window", "f,128,1,1\n", "0,f,1\n1000,f,1\n2000,f,1\n");
    let window = |config: &TraceConfig| {
        let workload = open(config, 1).unwrap();
        (workload.begin.map(|t| t.0 / MS), workload.end.map(|t| t.0 / MS))
    };
    assert_eq!(window(&config), (None, None));
    config.to = Some("1.5s".into());
    assert_eq!(window(&config), (None, Some(1500)));
    config.from = Some("0.5s".into());
    assert_eq!((window(&config), arrivals(&config)), ((Some(0), Some(1000)), vec![500 * MS]));
    config.time_scale = Some(2.0);
    assert_eq!((window(&config), arrivals(&config)), ((Some(0), Some(2000)), vec![1000 * MS]));
    config.from = Some("1.5s".into());
    says(&config, &["'from' is not before its 'to'"]);
    for wrong in ["24:30", "08:60", "8:00:99", "25:00"] {
        config.from = Some(wrong.into());
        says(&config, &["is not a time of day"]);
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn compressed_files_are_read_and_other_kinds_are_named() {
    let rows: String = (0..20_000).map(|i| format!("{},f,{}\n", i * 3, i % 7)).collect();
    let text = format!("time_ms,function,duration_ms\n{rows}");
    let plain = pair("compressed", "f,128,100,10\n", &rows);
    let want = calls(&plain);
    let folder = &plain.paths[0];
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        TraceConfig::new(Format::Csv, vec![folder.join("functions.csv"), path])
    };
    let (head, tail) = text.as_bytes().split_at(100_001);
    let skipped = [b"\x53\x2a\x4d\x18\x05\0\0\0hello".to_vec(), zstd(text.as_bytes())].concat();
    let parts = [zstd(head), b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(), zstd(tail)].concat();
    for bytes in [
        gzip(text.as_bytes()),
        [gzip(head), gzip(tail)].concat(),
        zstd(text.as_bytes()),
        skipped,
        parts,
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
    ] {
        assert!(calls(&file("some", &bytes)) == want);
    }
    // The folder's files may bear the ending.
    std::fs::remove_file(folder.join("invocations.csv")).unwrap();
    file("invocations.csv.zst", &zstd(text.as_bytes()));
    assert!(calls(&plain) == want);

    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let mut broken = gzip(text.as_bytes());
    broken.truncate(broken.len() / 2);
    let mut flipped = zstd(text.as_bytes());
    *flipped.last_mut().unwrap() ^= 1;
    for (bytes, part) in [
        (utf16("\u{feff}time_ms,function,duration_ms\n"), "UTF-16"),
        (big("\u{feff}time_ms,function,duration_ms\n"), "UTF-16"),
        (utf16("time_ms,function,duration_ms\n"), "UTF-16"),
        (big("time_ms,function,duration_ms\n"), "UTF-16"),
        (gzip(&utf16("time_ms,function,duration_ms\n")), "UTF-16"),
        (gzip(&gzip(text.as_bytes())), "compressed twice"),
        (b"PK\x03\x04rest".to_vec(), "spreadsheet"),
        (b"BZh91AY".to_vec(), "bzip2"),
        (b"PAR1....".to_vec(), "Parquet"),
        (broken, "cannot read"),
        (flipped, "a checksum is wrong"),
        (
            format!("time_ms,function,duration_ms\n\"{}", "x".repeat(20 << 20)).into_bytes(),
            "longer than 16 MiB",
        ),
    ] {
        says(&file("other", &bytes), &["other", part]);
    }
}

#[test]
fn fewer_and_more_invocations_follow_one_rule() {
    let mut draw = Seed::new(3).named("rows").draw(Purpose::Generate, 0);
    let mut at = 0.0;
    let mut rows = String::new();
    for i in 0..4000 {
        at += -500.0 * (1.0 - rand::RngExt::random::<f64>(&mut draw)).ln();
        // Some of one instant, and some far from all others.
        at += if i >= 3990 { 200_000.0 } else { 0.0 };
        rows += &format!("{at:.3},{},20\n", if i % 3 == 0 { "g" } else { "f" });
        if i % 50 == 0 {
            rows += &format!("{at:.3},f,30\n");
        }
    }
    let config = pair("scale", "f,128,1000,100\ng,128,1000,100\n", &rows);
    let base = calls(&config);
    let scaled = |k: f64| calls(&TraceConfig { rate_scale: Some(k), ..config.clone() });
    let n = base.len() as f64;

    let fewer = scaled(0.3);
    assert!((fewer.len() as f64 / n - 0.3).abs() < 0.03, "{}", fewer.len());
    let mut rest = base.iter();
    assert!(fewer.iter().all(|call| rest.any(|one| one == call)), "what stays is the file's, in its order");

    let more = scaled(4.0);
    assert!((more.len() as f64 / n - 4.0).abs() < 0.08, "three copies of each: {}", more.len());
    let part = scaled(1.5);
    assert!((part.len() as f64 / n - 1.5).abs() < 0.03, "{}", part.len());
    for name in ["f", "g"] {
        let of = |calls: &[Call]| calls.iter().filter(|c| c.1 == name).map(|c| c.0).collect::<Vec<_>>();
        let (originals, all) = (of(&base), of(&more));
        assert!(all.is_sorted());
        let instants: std::collections::BTreeSet<u64> = originals.iter().copied().collect();
        let mut places = 0.0;
        let mut copies = 0;
        let between =
            |from: u64, to: u64| &all[all.partition_point(|t| *t < from)..all.partition_point(|t| *t < to)];
        for window in instants.iter().copied().collect::<Vec<_>>().windows(2) {
            let end = window[1].min(window[0] + 60_000 * MS);
            let rows = originals.partition_point(|t| *t <= window[0])
                - originals.partition_point(|t| *t < window[0]);
            assert_eq!(between(window[0], window[0] + 1).len(), rows, "none at its original's instant");
            let inside = between(window[0] + 1, end);
            places += inside.iter().map(|t| (t - window[0]) as f64 / (end - window[0]) as f64).sum::<f64>();
            copies += inside.len();
            assert!(between(end, window[1]).is_empty(), "at most a minute on");
        }
        let mean = places / copies as f64;
        assert!((mean - 0.5).abs() < 0.02, "uniform between them: {mean}");
    }
    // A slice of the scaled trace is the scaled trace's slice.
    let from = 30_000 * MS;
    let slice = TraceConfig {
        rate_scale: Some(4.0),
        from: Some("30s".into()),
        to: Some("90s".into()),
        ..config.clone()
    };
    let want = more.iter().filter(|c| (from..3 * from).contains(&c.0)).map(|c| c.0 - from);
    assert_eq!(arrivals(&slice), want.collect::<Vec<_>>());
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        says(&TraceConfig { rate_scale: Some(wrong), ..config.clone() }, &["rate_scale"]);
    }
}

/// A trace of four times the rate and one that is scaled by four meet about the same.
#[test]
fn a_scaled_trace_is_like_one_that_was_busier() {
    let poisson = |name: &str, gap_ms: f64, n: u32| {
        let mut draw = Seed::new(9).named(name).draw(Purpose::Generate, 0);
        let mut at = 0.0;
        let mut rows = String::new();
        for _ in 0..n {
            at += -gap_ms * (1.0 - rand::RngExt::random::<f64>(&mut draw)).ln();
            rows += &format!("{at:.3},x,20\n");
        }
        pair(name, "x,128,1000,100\n", &rows)
    };
    let keys = [("worker.keep_alive", "2s")];
    let busier = replay(poisson("busier", 50.0, 20_000), &keys);
    let scaled = replay(TraceConfig { rate_scale: Some(4.0), ..poisson("scaled", 200.0, 5_000) }, &keys);
    let colds = [&busier, &scaled].map(|run| figure(run, "cold_starts"));
    let means = [&busier, &scaled].map(|run| figure(run, "latency_ms.mean"));
    assert!(colds[1] < 1.4 * colds[0] && colds[1] > colds[0] / 1.4, "{colds:?}");
    assert!(means[1] < 1.2 * means[0] && means[1] > means[0] / 1.2, "{means:?}");
}

#[test]
fn clones_are_functions_of_their_own_and_time_can_be_stretched() {
    let base = pair("clones", "f,128,1,1\ng,64,1,1\n", "0,f,5\n1000,g,6\n3000,f,7\n");
    let two = TraceConfig { clones: Some(2), ..base.clone() };
    let names = |calls: Vec<Call>| calls.into_iter().map(|c| (c.0 / MS, c.1)).collect::<Vec<_>>();
    let want = [(0, "f"), (0, "f~2"), (1000, "g"), (1000, "g~2"), (3000, "f"), (3000, "f~2")];
    assert_eq!(names(calls(&two)), want.map(|(t, name)| (t, name.to_string())));
    let specs = open(&two, 1).unwrap().functions;
    assert_eq!(
        (specs[3].name.as_str(), specs[3].app.as_str(), specs[3].memory),
        ("g~2", "g~2", Mem::from_mib(64))
    );
    let fast = TraceConfig { time_scale: Some(0.5), ..base.clone() };
    assert_eq!(
        calls(&fast).iter().map(|c| (c.0 / MS, c.2 / MS)).collect::<Vec<_>>(),
        [(0, 5), (500, 6), (1500, 7)]
    );
    // Of unix time the spans behind the first arrival are stretched.
    let unix = pair("stretched", "f,128,1,1\n", "1622505600000,f,5\n1622505601000,f,7\n");
    let unix = TraceConfig { time_scale: Some(3.0), ..unix };
    assert_eq!(arrivals(&unix), [1_622_505_600_000 * MS, 1_622_505_603_000 * MS]);
    says(&TraceConfig { clones: Some(0), ..base.clone() }, &["clones is 0", "at least 1"]);
    says(&TraceConfig { clones: Some(u32::MAX), ..base.clone() }, &["clones", "at most"]);
    says(&TraceConfig { time_scale: Some(0.0), ..base }, &["time_scale is 0"]);
    let far = pair("far", "f,128,1,1\n", "0,f,5\n315000000000,f,7\n");
    says(&TraceConfig { time_scale: Some(1000.0), ..far }, &["time_scale", "beyond 100 years"]);
    let taken = pair("taken", "f,128,1,1\nf~2,64,1,1\n", "0,f,5\n");
    says(&TraceConfig { clones: Some(2), ..taken }, &["the trace has a function 'f~2' already"]);
}

#[test]
fn ilúvatars_prewarms_and_processors_are_read() {
    const HEADER: &str = "func_name,cold_dur_ms,warm_dur_ms,mem_mb,prewarms,compute,isolation\n";
    let metadata =
        format!("{HEADER}f,500,100,128,3,GPU,DOCKER\ng,900,1000,64,0,CPU,DOCKER\nh,5,5,64,x,cpu|gpu,\n");
    let config = iluvatar("prewarms", &metadata, "f,0\nf,0\nf,0\nf,5000\n");
    let workload = open(&config, 1).unwrap();
    assert_eq!(workload.prewarm, [(FunctionId(0), 3)]);
    assert_eq!(workload.gpu, [FunctionId(0)]);
    assert_eq!(workload.functions[0].program.compute, Compute::Cpu);
    let notes = workload.notes.borrow().clone();
    assert_eq!(counted(&notes, "bad prewarms (taken as 0)"), 1);
    assert_eq!(counted(&notes, "cold_dur_ms below warm_dur_ms (cold start taken as 0)"), 1);
    assert_eq!(notes.remarks, ["Columns that are not used: isolation of m.csv."]);
    let honoured = open(&config, 1).unwrap().with_gpus(1);
    assert_eq!(honoured.functions[0].program.compute, Compute::Gpu);
    assert_eq!(honoured.functions[1].program.compute, Compute::Cpu);
    let without = open(&config, 1).unwrap().with_gpus(0);
    assert!(without.notes.borrow().remarks[1].contains("Of the trace's functions 1 compute on a GPU"));
    let clones = open(&TraceConfig { clones: Some(2), ..config }, 1).unwrap();
    assert_eq!(clones.prewarm, [(FunctionId(0), 3), (FunctionId(3), 3)]);
    assert_eq!(clones.gpu, [FunctionId(0), FunctionId(3)]);
}

#[test]
fn ilúvatars_dirt_is_counted_and_an_empty_file_is_none() {
    const HEADER: &str = "func_name,cold_dur_ms,warm_dur_ms,mem_mb\n";
    says(
        &iluvatar("empty", &format!("{HEADER}f,500,100,128\n"), ""),
        &["i.csv", "there are no invocations in it"],
    );
    let metadata = format!(
        "{HEADER}4137b8c22f,500,100,128\n4137b8c22f,500,100,128\n4137b8c22f,1,1,1\n\
         0417fd6cb6,-1,100,128\n1417fd6cb6,5,,128\n2417fd6cb6,5,5,many\n,5,5,5\n3417fd6cb6,5,5\n"
    );
    let rows = "4137b8c22f,0\n0417fd6cb6,1\n4137b8c22f,x\n4137b8c22f\n4137b8c22f,2.5\n";
    let (calls, notes) = read(&iluvatar("dirt", &metadata, rows)).unwrap();
    assert_eq!(calls.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 2_500_000]);
    for (kind, n) in [
        ("identical metadata rows (counted once)", 1),
        ("further metadata rows of one function (the first holds)", 1),
        ("metadata rows with a duration that is negative (left out)", 1),
        ("metadata rows with a duration that is empty (left out)", 1),
        ("metadata rows with a memory that is not a number (left out)", 1),
        ("metadata rows without a name (left out)", 1),
        ("rows with more or fewer fields than the header (left out)", 2),
        ("invocations of functions without metadata (left out)", 1),
        ("rows with a bad invoke_time_ms (left out)", 1),
    ] {
        assert_eq!(counted(&notes, kind), n, "{kind}: {:?}", notes.dirty);
    }
    assert!(
        notes.remarks[0].contains("the longest execution of a day as cold_dur_ms"),
        "{:?}",
        notes.remarks
    );
    let usable = format!("{HEADER}f,500,100,128\n");
    says(&iluvatar("unsorted", &usable, "f,5\nf,4\n"), &["i.csv: line 3", "sort the file"]);
    says(&iluvatar("far", &usable, "f,4611686018427.387\n"), &["i.csv: line 2", "above 100 years"]);
    says(
        &iluvatar("long", &format!("{HEADER}f,1e15,100,128\n"), "f,0\n"),
        &["m.csv: line 2", "above 100 years"],
    );
    let unix = iluvatar("unix-iluvatar", &usable, "f,1622505600000\nf,1622505600001\n");
    assert_eq!(open(&unix, 1).unwrap().epoch, Some(0));
    // Named one by one, compressed, or beside other files of a folder.
    let folder = &unix.paths[0];
    std::fs::write(folder.join("z.csv"), "").unwrap();
    assert_eq!(calls_of(&unix), 2);
    std::fs::write(folder.join("i.csv.gz"), gzip(&std::fs::read(folder.join("i.csv")).unwrap())).unwrap();
    std::fs::remove_file(folder.join("i.csv")).unwrap();
    assert_eq!(calls_of(&unix), 2);
    let paths: Vec<PathBuf> = ["m.csv", "i.csv.gz"].iter().map(|name| folder.join(name)).collect();
    assert_eq!(calls_of(&TraceConfig::new(Format::Iluvatar, paths)), 2);
}

fn calls_of(config: &TraceConfig) -> usize {
    calls(config).len()
}

#[test]
fn the_traces_that_come_along_are_replayed() {
    let folder = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("sim-traces").join(name);
    let (calls, notes) = read(&TraceConfig::new(Format::Iluvatar, vec![folder("iluvatar-20")])).unwrap();
    assert_eq!((calls.len(), notes.dirty.len()), (2_000, 0));
    let (calls, notes) = read(&TraceConfig::new(Format::Csv, vec![folder("csv-20")])).unwrap();
    assert_eq!((calls.len(), notes), (20_000, Notes::default()));
}

#[test]
fn ilúvatars_pair_is_replayed() {
    let folder = shared("traces/small/iluvatar/paper-repro");
    if !has("traces", "ilúvatars_pair_is_replayed", folder.is_dir()) {
        return;
    }
    let run = replay(TraceConfig::new(Format::Iluvatar, vec![folder]), &[]);
    assert_eq!(figure(&run, "completed"), 11_868.0);
    assert_eq!(figure(&run, "functions"), 21.0);
}
