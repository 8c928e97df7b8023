//! Snapshots of both views, and what they must never do. `KDC_BLESS=1` writes the snapshots anew.

use super::sample::sample;
use super::*;
use crate::bench::Origin;

fn snapshot(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/snapshots").join(name);
    if std::env::var_os("KDC_BLESS").is_some() {
        crate::files::write_atomic(&path, text.as_bytes()).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, expected, "{} differs; KDC_BLESS=1 writes it anew", path.display());
}

#[test]
fn a_summary_fits_on_a_screen_and_says_how_to_go_on() {
    let mut report = sample();
    report.files[0] = FileEntry { path: "bin/student".into(), ..report.files[0].clone() };
    let text = report.to_summary("out put/it's".as_ref());
    snapshot("summary.txt", &text);
    assert!(text.contains("scp 'out put/it'\\''s/bin/student' USER@BOARD:"), "{text}");
    // However much there is to say.
    let (skipped, file) = (report.skipped[0].clone(), report.files[0].clone());
    report.skipped = vec![skipped; 100];
    report.files = vec![file; 100];
    report.findings = vec!["a\nb".into(); 100];
    report.verdicts.iter_mut().for_each(|v| v.met = false);
    let text = report.to_summary("out".as_ref());
    assert!(text.lines().count() <= 40, "{text}");
    assert!(text.contains("NOT MET"), "{text}");
}

#[test]
fn the_text_view_is_as_recorded() {
    snapshot("sample.txt", &sample().to_text());
}

#[test]
fn the_json_view_is_as_recorded_and_reads_back() {
    let json = sample().to_json().unwrap();
    snapshot("sample.json", &json);
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), sample());
}

#[test]
fn of_many_classes_those_that_lost_most_are_shown() {
    let mut report = sample();
    let row = |i: usize| ClassRow {
        name: format!("class {i}"),
        samples: 10,
        teacher: Some(0.9),
        // The later, the more is lost.
        student: 0.9 - 0.01 * i as f64,
    };
    report.accuracy.as_mut().unwrap().classes = (0..12).map(row).collect();
    let text = report.to_text();
    assert!(text.contains("the 10 of 12 classes that lost most"), "{text}");
    assert!(text.contains("class 11  ") && text.contains("class 2 ") && text.contains("-11.00"), "{text}");
    assert!(!text.contains("class 0 ") && !text.contains("class 1 "), "{text}");
    let order: Vec<usize> = ["class 11", "class 10", "class 2 "].map(|name| text.find(name).unwrap()).to_vec();
    assert!(order.is_sorted(), "{text}");
}

#[test]
fn a_plan_says_only_what_is_planned() {
    let report = sample();
    let mut header = report.header.clone();
    header.dry_run = true;
    let plan = Report {
        header,
        accuracy: None,
        memory: None,
        layers: vec![],
        arena: None,
        program: None,
        storage: None,
        measurements: vec![],
        files: vec![],
        ..report
    };
    let text = plan.to_text();
    assert!(text.starts_with("kdc 0.1.0 plan"), "{text}");
    assert!(!text.contains("Accuracy") && !text.contains("Linked program"), "{text}");
}

#[test]
fn a_breach_never_reads_like_a_success() {
    let report = sample();
    assert!(!report.is_met());
    assert_eq!(report.breaches().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["--max-ram"]);
    assert!(report.to_text().ends_with("NOT MET: --max-ram.\n"));
    let nan = Verdict::new("--max-latency", Source::Asked, Quantity::Seconds, (f64::NAN, 1.0), Some(Origin::Measured));
    assert!(!nan.met && nan.to_string().contains("breached"), "{nan}");
}

#[test]
fn a_difference_from_the_reference_is_shouted() {
    let mut report = sample();
    if let Some(equality) = report.accuracy.as_mut().and_then(|a| a.equality.as_mut()) {
        equality.differing = 3;
    }
    assert!(report.to_text().contains("3 DIFFER"));
}

#[test]
fn without_a_linked_program_only_the_students_share_is_known() {
    let report = sample();
    let memory = report.memory.unwrap();
    let storage = report.storage.unwrap();
    let unlinked = Storage::new(&memory, storage.flash, storage.ram, None, None, None);
    assert_eq!((unlinked.flash_used(), unlinked.ram_used()), (memory.weights.bytes, memory.activations.bytes));
    assert_eq!(storage.flash_used(), report.program.unwrap().sections.flash(), "the parts add up to the whole");
}

#[test]
fn every_field_and_every_figure_is_documented() {
    let described = include_str!("REPORT.md");
    let json: serde_json::Value = serde_json::from_str(&sample().to_json().unwrap()).unwrap();
    for key in json.as_object().unwrap().keys() {
        assert!(described.contains(&format!("`{key}`")), "{key} is not in REPORT.md");
    }
    for measurement in sample().measurements {
        assert!(described.contains(&format!("`{}`", measurement.key)), "{} is not in REPORT.md", measurement.key);
    }
}

#[test]
fn estimates_stand_beside_what_was_observed_of_the_same_thing() {
    let text = sample().to_text();
    let title = "The cost model beside what was observed";
    let section: Vec<&str> = text.split_once(title).unwrap().1.lines().skip(2).take(1).collect();
    // 1.3 ms estimated, 1.25 ms measured
    for word in ["latency on this host", "1.30 ms", "1.25 ms", "+4.0%"] {
        assert!(section[0].contains(word), "{word}: {section:?}");
    }
    let mut report = sample();
    report.measurements.retain(|m| m.key != "student.latency.median");
    assert!(!report.to_text().contains(title), "nothing was observed");
}

/// Every string of a report, by the way to it.
fn strings(value: &serde_json::Value, way: &str, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(_) => found.push(way.into()),
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| strings(item, &format!("{way}/{i}"), found));
        }
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(key, item)| strings(item, &format!("{way}/{key}"), found));
        }
        _ => {}
    }
}

#[test]
fn no_name_forges_a_line_or_leaves_a_mark() {
    let plain = serde_json::to_value(sample()).unwrap();
    let mut ways = vec![];
    strings(&plain, "", &mut ways);
    let lines = |report: &Report| report.to_text().lines().count();
    let (expected, mut tried) = (lines(&sample()), 0);
    // Keys say which figures are compared, and are not shown.
    for way in ways.iter().filter(|way| !way.ends_with("/key")) {
        for name in ["a\nNOT MET: forged", "\u{1b}[2J", "\u{202e}b", "a\r\0\u{85}\u{2028}"] {
            let mut forged = plain.clone();
            *forged.pointer_mut(way).unwrap() = name.into();
            // Words that the program chose itself do not read back.
            let Ok(report) = serde_json::from_value::<Report>(forged) else { continue };
            let (text, json) = (report.to_text(), report.to_json().unwrap());
            for c in text.chars().chain(json.chars()) {
                assert!(c == '\n' || !(c.is_control() || "\u{202e}\u{2028}".contains(c)), "{way}: {c:?}");
            }
            assert_eq!(lines(&report), expected, "{way}:\n{text}");
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried}");
}
