//! records.csv: a row for each invocation, in order of return.

use crate::base::{ColdCause, Fault, Record, Result, StartKind, Status};
use crate::rt::chance::{Purpose, RngKey, Seed};
use rand::RngExt;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// Writes records as rows of a file.
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    text: Vec<u8>,
    pub(super) start_unix_ns: u64,
    names: Vec<String>,
    pub(super) backends: Vec<String>,
    share: f64,
    rng: RngKey,
    fault: Option<Fault>,
}

const HEADER: &str = "invocation,function,worker,backend,container,start_kind,cold_cause,status,arrival_unix_ns,enqueue_ns,\
dispatch_ns,exec_start_ns,exec_end_ns,return_ns,intended_ns,memory_mb,attempt,weight,error\n";

impl Writer {
    /// A writer of this share of the records, chosen by their numbers, under the names of the functions.
    pub(super) fn new(
        file: File,
        path: PathBuf,
        share: f64,
        start_unix_ns: u64,
        names: &[String],
        seed: u64,
    ) -> Writer {
        let rng = Seed::new(seed).named("records");
        let names = names.iter().map(|n| super::format::quoted(n).into_owned()).collect();
        let mut text = Vec::with_capacity(1 << 17);
        text.extend_from_slice(HEADER.as_bytes());
        Writer { file, path, text, start_unix_ns, names, backends: Vec::new(), share, rng, fault: None }
    }

    pub(super) fn write(&mut self, r: &Record) {
        if self.share < 1.0 && self.rng.draw(Purpose::Sampling, r.invocation).random::<f64>() >= self.share {
            return;
        }
        let start = self.start_unix_ns;
        let out = &mut self.text;
        number(out, r.invocation);
        text(out, &self.names[r.function.index()]);
        field(out, u64::from(r.worker));
        text(out, r.backend.and_then(|b| self.backends.get(usize::from(b))).map_or("", String::as_str));
        optional(out, r.container);
        text(out, r.start.map_or("", StartKind::word));
        text(out, r.cause.map_or("", ColdCause::word));
        text(out, r.status.word());
        field(out, start + r.arrival.0);
        for instant in [r.enqueue, r.dispatch, r.exec_start, r.exec_end] {
            optional(out, instant.map(|t| t.since(r.arrival).0));
        }
        // What did not end has no return.
        optional(out, (r.status != Status::Unfinished).then(|| r.returned.since(r.arrival).0));
        field(out, r.intended.0);
        out.push(b',');
        mib(out, r.memory.0);
        field(out, u64::from(r.attempt));
        if self.share < 1.0 {
            text(out, &format!("{}", 1.0 / self.share))
        } else {
            field(out, 1)
        }
        match r.error.as_deref() {
            Some(why) => text(out, &super::format::quoted(why)),
            None => out.push(b','),
        }
        out.push(b'\n');
        if out.len() > (1 << 17) - 4096 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.fault.is_none()
            && let Err(e) = self.file.write_all(&self.text)
        {
            self.fault = Some(Fault::writing(&self.path, &e));
        }
        self.text.clear();
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.flush();
        self.fault.map_or(Ok(()), Err)
    }
}

fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn field(out: &mut Vec<u8>, n: u64) {
    out.push(b',');
    number(out, n);
}

fn optional(out: &mut Vec<u8>, n: Option<u64>) {
    out.push(b',');
    if let Some(n) = n {
        number(out, n);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b',');
    out.extend_from_slice(text.as_bytes());
}

/// Bytes as MiB with at most three decimals.
fn mib(out: &mut Vec<u8>, bytes: u64) {
    number(out, bytes >> 20);
    let thousandths = ((bytes & 0xf_ffff) * 1000) >> 20;
    if thousandths > 0 {
        out.extend_from_slice(format!(".{thousandths:03}").as_bytes());
    }
}
