//! methods.bib: BibTeX entries for the tool, the trace and the policies that a run used.

use super::Summary;
use std::fmt::Write as _;

/// An entry: its kind and key, and its fields.
type Entry = (&'static str, &'static [(&'static str, &'static str)]);

const SHAHRAD_2020: Entry = (
    "@inproceedings{shahrad2020wild",
    &[
        (
            "author",
            "Shahrad, Mohammad and Fonseca, Rodrigo and Goiri, {\\'I}{\\~n}igo and Chaudhry, Gohar and Batum, Paul and \
                    Cooke, Jason and Laureano, Eduardo and Tresness, Colby and Russinovich, Mark and Bianchini, Ricardo",
        ),
        (
            "title",
            "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a Large Cloud Provider",
        ),
        ("booktitle", "2020 USENIX Annual Technical Conference (USENIX ATC 20)"),
        ("pages", "205--218"),
        ("year", "2020"),
    ],
);
const ZHANG_2021: Entry = (
    "@inproceedings{zhang2021harvested",
    &[
        (
            "author",
            "Zhang, Yanqi and Goiri, {\\'I}{\\~n}igo and Chaudhry, Gohar Irfan and Fonseca, Rodrigo and Elnikety, Sameh \
                    and Delimitrou, Christina and Bianchini, Ricardo",
        ),
        ("title", "Faster and Cheaper Serverless Computing on Harvested Resources"),
        ("booktitle", "Proceedings of the 28th ACM Symposium on Operating Systems Principles (SOSP '21)"),
        ("pages", "724--739"),
        ("year", "2021"),
        ("doi", "10.1145/3477132.3483580"),
    ],
);
const USTIUGOV_2023: Entry = (
    "@inproceedings{ustiugov2023invitro",
    &[
        (
            "author",
            "Ustiugov, Dmitrii and Park, Dohyun and Cvetkovi{\\'c}, Lazar and Djokic, Mihajlo and H{\\`e}, Hongyu and \
                    Grot, Boris and Klimovic, Ana",
        ),
        ("title", "Enabling In-Vitro Serverless Systems Research"),
        (
            "booktitle",
            "Proceedings of the 4th Workshop on Resource Disaggregation and Serverless (WORDS '23)",
        ),
        ("year", "2023"),
    ],
);
const FUERST_2023: Entry = (
    "@inproceedings{fuerst2023iluvatar",
    &[
        ("author", "Fuerst, Alexander and Rehman, Abdul and Sharma, Prateek"),
        ("title", "Il{\\'u}vatar: A Fast Control Plane for Serverless Computing"),
        (
            "booktitle",
            "Proceedings of the 32nd International Symposium on High-Performance Parallel and Distributed Computing \
                       (HPDC '23)",
        ),
        ("year", "2023"),
        ("doi", "10.1145/3588195.3592995"),
    ],
);
const FUERST_2021: Entry = (
    "@inproceedings{fuerst2021faascache",
    &[
        ("author", "Fuerst, Alexander and Sharma, Prateek"),
        ("title", "{FaasCache}: Keeping Serverless Computing Alive with Greedy-Dual Caching"),
        (
            "booktitle",
            "Proceedings of the 26th ACM International Conference on Architectural Support for Programming \
                       Languages and Operating Systems (ASPLOS '21)",
        ),
        ("pages", "386--400"),
        ("year", "2021"),
        ("doi", "10.1145/3445814.3446757"),
    ],
);
const CHERKASOVA_1998: Entry = (
    "@techreport{cherkasova1998gdsf",
    &[
        ("author", "Cherkasova, Ludmila"),
        ("title", "Improving {WWW} Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy"),
        ("institution", "Hewlett-Packard Laboratories"),
        ("number", "HPL-98-69"),
        ("year", "1998"),
    ],
);
const LIU_1973: Entry = (
    "@article{liu1973scheduling",
    &[
        ("author", "Liu, C. L. and Layland, James W."),
        ("title", "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment"),
        ("journal", "Journal of the ACM"),
        ("volume", "20"),
        ("number", "1"),
        ("pages", "46--61"),
        ("year", "1973"),
        ("doi", "10.1145/321738.321743"),
    ],
);
const MIRROKNI_2018: Entry = (
    "@inproceedings{mirrokni2018bounded",
    &[
        ("author", "Mirrokni, Vahab and Thorup, Mikkel and Zadimoghaddam, Morteza"),
        ("title", "Consistent Hashing with Bounded Loads"),
        ("booktitle", "Proceedings of the 29th Annual ACM-SIAM Symposium on Discrete Algorithms (SODA '18)"),
        ("pages", "587--604"),
        ("year", "2018"),
    ],
);
const MITZENMACHER_2000: Entry = (
    "@article{mitzenmacher2000old",
    &[
        ("author", "Mitzenmacher, Michael"),
        ("title", "How Useful Is Old Information?"),
        ("journal", "IEEE Transactions on Parallel and Distributed Systems"),
        ("volume", "11"),
        ("number", "1"),
        ("pages", "6--20"),
        ("year", "2000"),
        ("doi", "10.1109/71.824633"),
    ],
);
const MITZENMACHER_2001: Entry = (
    "@article{mitzenmacher2001choices",
    &[
        ("author", "Mitzenmacher, Michael"),
        ("title", "The Power of Two Choices in Randomized Load Balancing"),
        ("journal", "IEEE Transactions on Parallel and Distributed Systems"),
        ("volume", "12"),
        ("number", "10"),
        ("pages", "1094--1104"),
        ("year", "2001"),
        ("doi", "10.1109/71.963420"),
    ],
);
const JOOSEN_2025: Entry = (
    "@inproceedings{joosen2025coldstarts",
    &[
        (
            "author",
            "Joosen, Artjom and Hassan, Ahmed and Asenov, Martin and Singh, Rajkarn and Darlow, Luke and Wang, Jianfeng \
                    and Deng, Qiwen and Barker, Adam",
        ),
        ("title", "Serverless Cold Starts and Where to Find Them"),
        ("booktitle", "Proceedings of the Twentieth European Conference on Computer Systems (EuroSys '25)"),
        ("pages", "938--953"),
        ("year", "2025"),
        ("doi", "10.1145/3689031.3696073"),
    ],
);

/// What a word of the plan goes back to: a key, the value it has, and the entries.
const SOURCES: &[(&str, &str, &[Entry])] = &[
    ("trace.format", "azure-2019", &[SHAHRAD_2020]),
    ("trace.format", "invitro", &[SHAHRAD_2020, USTIUGOV_2023]),
    ("trace.format", "azure-2021", &[ZHANG_2021]),
    ("trace.format", "iluvatar", &[FUERST_2023]),
    ("eviction", "greedy-dual", &[FUERST_2021, CHERKASOVA_1998]),
    ("eviction", "lfu", &[FUERST_2021]),
    ("eviction", "size", &[FUERST_2021]),
    ("queue", "sjf", &[FUERST_2023]),
    ("queue", "edf", &[LIU_1973]),
    ("balancer", "locality", &[MIRROKNI_2018]),
    ("balancer", "least-loaded", &[MITZENMACHER_2000]),
    ("balancer", "power-of-two", &[MITZENMACHER_2001]),
];

/// The entries of a run.
pub(super) fn bib(summary: &Summary) -> String {
    let setup = &summary.facts.setup;
    let mut used: Vec<Entry> = Vec::new();
    let fleet = summary.workers.len() > 1;
    let worker = summary.workers.first();
    for (key, word, entries) in SOURCES {
        let value = match *key {
            "eviction" => worker.map(|w| without_parameters(&w.policies.eviction)),
            "queue" => worker.map(|w| without_parameters(&w.policies.queue)),
            "balancer" => setup.get("controller.balancer").filter(|_| fleet),
            key => setup.get(key),
        };
        if value == Some(word) {
            used.extend(entries.iter().filter(|e| !used.iter().any(|u| u.0 == e.0)).collect::<Vec<_>>());
        }
    }
    // The default law is fitted to Huawei's trace; a key that the plan sets is the user's to cite.
    let own = setup.keys.iter().any(|k| k.name == "model.cold_start" && k.usual);
    if own && setup.calibration.is_none() && setup.get("trace.cold_start").is_none() {
        used.push(JOOSEN_2025);
    }
    let version = env!("CARGO_PKG_VERSION");
    let mut out = format!(
        "@software{{elapse,\n  author = {{{{The Elapse maintainers}}}},\n  title = {{Elapse: One Serverless Worker, Simulated and Live}},\n  \
         version = {{{version}}}\n}}\n"
    );
    for (head, fields) in used {
        let _ = write!(out, "\n{head}");
        for (field, value) in fields {
            let _ = write!(out, ",\n  {field} = {{{value}}}");
        }
        out.push_str("\n}\n");
    }
    out
}

/// The name of a policy that is written with its parameters.
fn without_parameters(policy: &str) -> &str {
    policy.split(" (").next().unwrap_or(policy)
}
