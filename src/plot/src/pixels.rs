//! Pictures as pixels, and with the letters of another font as outlines: the feature `png`.

use super::fonts::{self, FONT, FONT_FILE};
use super::{Plot, undrawn};
use crate::base::Result;
use resvg::{tiny_skia, usvg};
use std::path::Path;

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

/// Pictures whose words have letters that our font lacks are drawn with those of `font`, as outlines, so that they look the
/// same everywhere.
///
/// # Errors
/// If the file cannot be read, or is no font.
pub fn outlined(mut plots: Vec<Plot>, font: &Path) -> Result<Vec<Plot>> {
    let bytes = fonts::read(font)?;
    for plot in plots.iter_mut().filter(|plot| fonts::lacking(&plot.svg).is_some()) {
        let tree = tree(&plot.svg, Some(bytes.clone())).map_err(|e| undrawn(&e))?;
        let options = usvg::WriteOptions { preserve_text: false, ..usvg::WriteOptions::default() };
        plot.svg = super::titled(&tree.to_string(&options), &plot.title);
    }
    Ok(plots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_other_scripts_become_outlines() {
        let svg = "<svg width=\"80\" height=\"20\" xmlns=\"http://www.w3.org/2000/svg\">\
                   <text x=\"1\" y=\"15\" font-size=\"12\">ok 数</text></svg>";
        let plain = svg.replace('数', "");
        let plots = ["with", "without"]
            .map(|name| Plot::new(name, "A & B".into(), if name == "with" { svg } else { &plain }));
        assert!(fonts::note(&plots).unwrap().contains('数'));
        let font = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/font/OpenSans-Regular.ttf");
        let drawn = outlined(plots.to_vec(), &font).unwrap();
        assert!(!drawn[0].svg.contains("<text") && drawn[0].svg.contains("<path"), "{}", drawn[0].svg);
        assert!(drawn[0].svg.contains("role=\"img\"><title>A &amp; B</title>"));
        assert_eq!((drawn[1].svg.as_str(), fonts::note(&drawn)), (plots[1].svg.as_str(), None));
        assert!(outlined(plots.to_vec(), Path::new(file!())).is_err());
    }
}
