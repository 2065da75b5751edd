//! How the page looks: by day, by night and on paper.

/// The rules beside the font's.
pub(super) const STYLE: &str = "\
:root{--ink:#222;--soft:#555;--line:#ddd;--back:#fff;--warn:#fff4e0}\
body{font:16px/1.5 'Open Sans',system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:940px;margin:2.5rem auto;\
padding:0 1rem}\
h1{font-size:1.7rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}p.lead{color:var(--soft);margin:.2rem 0 1.2rem}\
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:.8rem}\
.tile{border:1px solid var(--line);border-radius:8px;padding:.6rem .8rem}.tile b{display:block;font-size:1.35rem}\
.tile span{color:var(--soft);font-size:.85rem}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.93rem}\
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--line);overflow-wrap:anywhere}\
th:first-child,td:first-child{text-align:left}th{font-weight:600;color:var(--soft);font-size:.87rem}\
p.note{color:var(--soft);font-size:.9rem;margin:.4rem 0}figure{margin:1.2rem 0}svg{width:100%;height:auto}\
pre{background:color-mix(in srgb,var(--soft) 10%,var(--back));padding:.6rem .8rem;overflow-x:auto;white-space:pre-wrap;font-size:.85rem}\
iframe{width:100%;height:22rem;border:1px solid var(--line);background:#fff}\
.warn{background:var(--warn);border-left:4px solid #e69f00;padding:.5rem .9rem;margin:.5rem 0}\
footer{color:var(--soft);font-size:.85rem;margin-top:2.5rem}a{color:#0072b2}\
@media(prefers-color-scheme:dark){\
:root{--ink:#e4e4e4;--soft:#a8a8a8;--line:#3a3d42;--back:#16181b;--warn:#3a2f1a;color-scheme:dark}a{color:#56b4e9}\
svg [fill='#FFFFFF']{fill:#16181b}svg [stroke='#FFFFFF']{stroke:#16181b}svg text,svg [fill='#282828']{fill:#e4e4e4}svg [stroke='#282828']{stroke:#e4e4e4}\
svg [stroke='#E1E1E1']{stroke:#33363b}svg [stroke='#C8C8C8']{stroke:#55585d}\
svg [stroke='#6E6E6E']{stroke:#a8a8a8}svg [fill='#6E6E6E']{fill:#a8a8a8}\
svg [stroke='#0072B2']{stroke:#3d9fe0}svg [fill='#0072B2']{fill:#3d9fe0}}\
@media print{body{max-width:none;margin:0;font-size:11pt}.tile,.warn,tr,figure{break-inside:avoid}h2{break-after:avoid}\
a{color:inherit;text-decoration:none}details{display:none}}";
