//! The font that every picture brings, and what is done where a name has letters that it lacks.

use super::Plot;
use crate::base::{Fault, Result};
use base64::prelude::{BASE64_STANDARD, Engine};
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

/// The words of a picture: what stands in its text elements.
fn words(svg: &str) -> impl Iterator<Item = &str> {
    let texts = svg.split("<text").skip(1);
    texts.filter_map(|text| text.split_once('>')?.1.split_once("</text").map(|(words, _)| words))
}

/// The first letter of a picture that our font lacks.
pub(super) fn lacking(svg: &str) -> Option<char> {
    let face = ttf_parser::Face::parse(FONT_FILE, 0).ok()?;
    let drawn = |c: char| c.is_ascii() || c.is_whitespace() || face.glyph_index(c).is_some();
    words(svg).flat_map(str::chars).find(|c| !drawn(*c))
}

/// Reads a font's file.
///
/// # Errors
/// If it cannot be read, or is no font.
pub(super) fn read(font: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(font).map_err(|e| Fault::reading(font, &e))?;
    match ttf_parser::Face::parse(&bytes, 0) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(Fault::usage(format!(
            "cannot read {}: it is not a font; name a TrueType or OpenType file (.ttf, .otf, .ttc)",
            font.display()
        ))),
    }
}

/// What a program without the feature `png` says of other fonts.
pub(super) fn undrawable() -> Fault {
    Fault::host(
        "this program was built without png, which draws the letters of other fonts too; build it whole (make build)",
    )
}

/// Says that another font takes the feature `png`.
///
/// # Errors
/// Always.
#[cfg(not(feature = "png"))]
pub fn outlined(_plots: Vec<Plot>, _font: &Path) -> Result<Vec<Plot>> {
    Err(undrawable())
}

/// Whether pictures can be drawn with this font; asked before a run, whose results a wrong one must not cost.
///
/// # Errors
/// If the file cannot be read, or is no font.
pub fn check_font(font: &Path) -> Result<()> {
    read(font)?;
    if cfg!(feature = "png") { Ok(()) } else { Err(undrawable()) }
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
    fn the_title_stays_first() {
        let svg = with_font("<svg width=\"1\"><title>t</title><rect/></svg>");
        assert!(
            svg.starts_with("<svg width=\"1\"><title>t</title>\n<style>")
                && svg.ends_with("</style><rect/></svg>")
        );
    }
}
