//! Tables as files have them: quotes, chunks, compression, what is no table.

use super::*;

impl Table {
    /// Reads the next row; false at the end.
    fn advance(&mut self) -> Result<bool> {
        match self.step()? {
            Step::End => Ok(false),
            Step::Row => Ok(true),
            Step::Misfit => Err(self.misfit()),
        }
    }
}

fn table(name: &str, text: &str) -> Table {
    let path = std::env::temp_dir().join(format!("elapse-table-{name}-{}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let table = Table::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    table
}

#[test]
fn rows_are_those_of_the_csv_crate() {
    let long = "x".repeat(3 * CHUNK);
    let text = format!(
        "a,b,c\r\n1,2,3\n\n\"q,1\",\"say \"\"so\"\"\",5\n,,\n\"two\nlines\",\"{long}\",7\r\n{long},8,9\n10,11,12"
    );
    let mut ours = table("rows", &text);
    let mut theirs = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let mut rows = 0;
    for record in theirs.byte_records() {
        let record = record.unwrap();
        assert!(ours.advance().unwrap());
        let fields: Vec<&[u8]> = (0..ours.len()).map(|i| ours.field(i)).collect();
        assert!(fields == record.iter().collect::<Vec<_>>(), "row {rows}");
        rows += 1;
    }
    assert!(!ours.advance().unwrap());
    assert_eq!((rows, ours.line), (6, 9));
}

#[test]
fn the_last_row_is_known_before_it_is_read() {
    let last = |text: &str| table("last", text).last_decimal(1, 1_000_000);
    assert_eq!(last("a,t\nx,1.5\ny,2.25\n"), Some(2_250_000));
    assert_eq!(last(&format!("a,t\n{}z,7", "x,1\n".repeat(5000))), Some(7_000_000));
    let unknown = ["a,t\n", "a,t\nx,1\n\"y\",2\n", "a,t\nx,1\nshort\n"].map(last);
    assert_eq!(unknown, [None, None, None]);
    let mut read = table("last-read", "a,t\nx,1\ny,2\n");
    assert!(read.last_decimal(1, 1).is_some() && read.advance().unwrap());
    assert_eq!(read.text(0).unwrap(), "x", "nothing was used up");
}

#[test]
fn a_quote_out_of_place_swallows_no_rows() {
    let mut ours = table("stray", "a,b,c\n0,a\"b,1\n1,f,1\n2,c\"d,1\n3,\"x\" y\"z,1\n4,g,1\n");
    let mut rows = Vec::new();
    while ours.advance().unwrap() {
        rows.push(ours.text(0).unwrap().to_string());
    }
    assert_eq!(rows, ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_short_row_tells_its_line() {
    let mut short = table("short", "a,b\n1,2\n\n3");
    assert!(short.advance().unwrap());
    let said = short.advance().unwrap_err().to_string();
    assert!(said.contains("line 4: the row has 1 of 2 columns"), "{said}");
}
