//! The font that every picture brings, and what is done where a name has letters that it lacks.

use super::{Plot, undrawn};
use crate::base::{Fault, Result};
use base64::prelude::{BASE64_STANDARD, Engine};
use resvg::{tiny_skia, usvg};
use std::path::Path;

pub(super) const FONT: &str = "Open Sans";
pub(super) static FONT_FILE: &[u8] = include_bytes!("font/OpenSans-Regular.ttf");

/// The rule by which a page or a picture knows the font, wherever it is opened.
pub(super) fn font_rule() -> String {
    format!(
        "@font-face{{font-family:\"{FONT}\";src:url(data:font/ttf;base64,{}) format(\"truetype\")}}",
        BASE64_STANDARD.encode(FONT_FILE)
    )
}

/// Embeds the font, so that the picture is the same everywhere. A title stays the first that a reader aloud meets.
pub(super) fn with_font(svg: &str) -> String {
    let after = |mark: &str| svg.find(mark).map(|at| at + mark.len());
    match after("</title>").or_else(|| after(">")) {
        Some(at) => format!("{}\n<style>{}</style>{}", &svg[..at], font_rule(), &svg[at..]),
        None => svg.to_string(),
    }
}

/// A tree of the picture, with this font beside our own if one is given.
fn tree(svg: &str, more: Option<Vec<u8>>) -> Result<usvg::Tree, usvg::Error> {
    let mut options = usvg::Options { font_family: FONT.into(), ..usvg::Options::default() };
    options.fontdb_mut().load_font_data(FONT_FILE.to_vec());
    if let Some(more) = more {
        options.fontdb_mut().load_font_data(more);
    }
    usvg::Tree::from_str(svg, &options)
}

/// The picture as pixels, twice as many each way as its size says.
pub(super) fn png(svg: &str) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error>> {
    let tree = tree(svg, None)?;
    let size = tree.size().to_int_size();
    let mut pixels =
        tiny_skia::Pixmap::new(size.width() * 2, size.height() * 2).ok_or("a picture without pixels")?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(2.0, 2.0), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}

/// The words of a picture: what stands in its text elements.
fn words(svg: &str) -> impl Iterator<Item = &str> {
    let texts = svg.split("<text").skip(1);
    texts.filter_map(|text| text.split_once('>')?.1.split_once("</text").map(|(words, _)| words))
}

/// The first letter of a picture that our font lacks.
fn lacking(svg: &str) -> Option<char> {
    let face = ttf_parser::Face::parse(FONT_FILE, 0).ok()?;
    let drawn = |c: char| c.is_ascii() || c.is_whitespace() || face.glyph_index(c).is_some();
    words(svg).flat_map(str::chars).find(|c| !drawn(*c))
}

/// Reads a font's file.
///
/// # Errors
/// If it cannot be read, or is no font.
fn read(font: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(font).map_err(|e| Fault::reading(font, &e))?;
    match ttf_parser::Face::parse(&bytes, 0) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(Fault::usage(format!(
            "cannot read {}: it is not a font; name a TrueType or OpenType file (.ttf, .otf, .ttc)",
            font.display()
        ))),
    }
}

/// Whether pictures can be drawn with this font; asked before a run, whose results a wrong one must not cost.
///
/// # Errors
/// If the file cannot be read, or is no font.
pub fn check_font(font: &Path) -> Result<()> {
    read(font).map(drop)
}

/// Pictures whose words have letters that our font lacks are drawn with those of `font`, as outlines, so that they look the
/// same everywhere.
///
/// # Errors
/// If the file cannot be read, or is no font.
pub fn outlined(mut plots: Vec<Plot>, font: &Path) -> Result<Vec<Plot>> {
    let bytes = read(font)?;
    for plot in plots.iter_mut().filter(|plot| lacking(&plot.svg).is_some()) {
        let tree = tree(&plot.svg, Some(bytes.clone())).map_err(|e| undrawn(&e))?;
        let options = usvg::WriteOptions { preserve_text: false, ..usvg::WriteOptions::default() };
        plot.svg = super::titled(&tree.to_string(&options), &plot.title);
    }
    Ok(plots)
}

/// What to say of pictures with letters that our font lacks; nothing where there are none.
pub(super) fn note(plots: &[Plot]) -> Option<String> {
    let letter = plots.iter().find_map(|plot| lacking(&plot.svg))?;
    Some(format!(
        "names in the pictures have letters that their font lacks, '{letter}' for instance: an SVG shows them where its \
         viewer has a font with them, a PNG leaves them out; name a font with --set plots.font=FILE.ttf, or elapse plot --font FILE.ttf"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_beyond_latin_are_found_in_words_only() {
        let of =
            |text: &str| lacking(&format!("<svg><title>数</title><text x=\"1\">\n{text}\n</text></svg>"));
        assert_eq!((of("caf\u{e9}\u{2026} 1,000"), of("ok 数据")), (None, Some('数')));
    }

    #[test]
    fn names_in_other_scripts_become_outlines() {
        let svg = "<svg width=\"80\" height=\"20\" xmlns=\"http://www.w3.org/2000/svg\">\
                   <text x=\"1\" y=\"15\" font-size=\"12\">ok 数</text></svg>";
        let plain = svg.replace('数', "");
        let plots = ["with", "without"]
            .map(|name| Plot::new(name, "A & B".into(), if name == "with" { svg } else { &plain }));
        assert!(note(&plots).unwrap().contains('数'));
        let font = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/font/OpenSans-Regular.ttf");
        let drawn = outlined(plots.to_vec(), &font).unwrap();
        assert!(!drawn[0].svg.contains("<text") && drawn[0].svg.contains("<path"), "{}", drawn[0].svg);
        assert!(drawn[0].svg.contains("role=\"img\"><title>A &amp; B</title>"));
        assert_eq!((drawn[1].svg.as_str(), note(&drawn)), (plots[1].svg.as_str(), None));
        assert!(outlined(plots.to_vec(), Path::new(file!())).is_err());
    }

    #[test]
    fn the_title_stays_first() {
        let svg = with_font("<svg width=\"1\"><title>t</title><rect/></svg>");
        assert!(
            svg.starts_with("<svg width=\"1\"><title>t</title>\n<style>")
                && svg.ends_with("</style><rect/></svg>")
        );
    }
}
