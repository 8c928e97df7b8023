//! The report on a screen: what came out, where it is, and how to run it on the board.

use super::format::{bytes, count, part, percent};
use super::table::list;
use super::{Accuracy, Network, Report};
use crate::escape::line;
use crate::program::Precision;
use std::path::Path;

impl Report {
    /// At most 40 lines: verdict, accuracy, size, memory, latency, where the files are, and how the program gets to the
    /// board. `folder`: the results'.
    pub fn to_summary(&self, folder: &Path) -> String {
        let h = &self.header;
        let precision = match h.precision {
            Precision::Int8 => "int8",
            Precision::F32 => "f32",
        };
        let what = if h.dry_run { " (a plan: nothing was trained)" } else { "" };
        let title = format!("kdc {}: {} for {}, {precision}{what}", h.kdc, h.model, h.target);
        let mut parts = vec![format!("{}\n{}", line(&title), list(self.figures()))];
        // The report has them all.
        let mut some = |title: &str, most: usize, lines: Vec<String>| {
            if lines.is_empty() {
                return;
            }
            let shown: String = lines.iter().take(most).map(|text| format!("  {}\n", line(text))).collect();
            let more = lines.len().saturating_sub(most);
            let rest = if more > 0 { format!("  and {more} more\n") } else { String::new() };
            parts.push(format!("{title}\n{shown}{rest}"));
        };
        some("Not met", 3, self.breaches().map(ToString::to_string).collect());
        some("Left out", 3, self.skipped.iter().map(|s| format!("{}: {}", s.what, s.why)).collect());
        some("Exported files in other engines", 2, self.findings.clone());
        let named = |path: &str, what: &str| format!("{}: {what}", folder.join(path).display());
        let whole = (!h.dry_run).then(|| named("report.txt", "the whole report"));
        some("Files", 6, whole.into_iter().chain(self.files.iter().map(|f| named(&f.path, &f.what))).collect());
        some("On the board", 2, self.on_the_board(folder));
        parts.join("\n")
    }

    fn figures(&self) -> Vec<(String, String)> {
        let verdict = match (self.breaches().count(), self.verdicts.is_empty()) {
            (0, true) => "nothing was judged".to_string(),
            (0, false) => "all budgets and tolerances that were judged are met".into(),
            (n, _) => format!("NOT MET: {n} of {}", self.verdicts.len()),
        };
        let mut rows = vec![("verdict", verdict), ("student", self.header.plan.student.clone())];
        if let Some(accuracy) = &self.accuracy {
            rows.extend(self.judged(accuracy).map(|text| ("accuracy", text)));
            rows.extend(accuracy.equality.as_ref().map(|e| {
                let (values, samples) = (count(e.values as f64), count(e.samples as f64));
                let equal = match e.differing {
                    0 => "equal to the reference interpreter bit for bit".to_string(),
                    n => format!("{} DIFFER from the reference interpreter", count(n as f64)),
                };
                ("program", format!("{values} values of {samples} samples: {equal}"))
            }));
        }
        let (teacher, student) = (&self.size.teacher, &self.size.student);
        let ratio = |student: u64, teacher: u64| match student {
            0 => String::new(),
            _ => format!(" (1 / {:.2} of the teacher's)", teacher as f64 / student as f64),
        };
        let sized = |what: &str, student: u64, teacher: u64| {
            format!("{} {what}{}", count(student as f64), ratio(student, teacher))
        };
        let macs = sized("MACs", student.macs, teacher.macs);
        let size = format!("{macs}, {}, counted", sized("parameters", student.params, teacher.params));
        rows.push(("size", size));
        if let Some(s) = &self.storage {
            let of = |used: u64, whole: u64| {
                format!("{}, {} of the target's, counted", bytes(used as f64), part(used as f64, whole as f64))
            };
            rows.push(("flash", of(s.flash_used().0, s.flash.0)));
            rows.push(("RAM", of(s.ram_used().0, s.ram.0)));
        }
        let latency: Vec<String> = ["student.latency.estimated", "student.latency.median"]
            .iter()
            .filter_map(|key| self.measurements.iter().find(|m| m.key == *key))
            .map(|m| format!("{} {} ({})", m.figure, m.figure.origin, m.on))
            .collect();
        if !latency.is_empty() {
            rows.push(("latency", latency.join("; ")));
        }
        rows.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// How right the student is that the program computes, beside its teacher.
    fn judged(&self, accuracy: &Accuracy) -> Option<String> {
        let of = |network: Network| accuracy.rows.iter().find(|row| row.network == network);
        let own = match self.header.precision {
            Precision::Int8 => Network::StudentInt8,
            Precision::F32 => Network::StudentF32,
        };
        let student = of(own)?;
        let samples = format!("{} {} samples, {}", count(student.samples as f64), accuracy.split, accuracy.origin);
        let mut text = format!("{} of {samples}", percent(student.accuracy));
        if let Some(teacher) = of(Network::Teacher) {
            text += &format!("; the teacher {}", percent(teacher.accuracy));
        }
        text += &student.agreement.map_or(String::new(), |share| format!(", the same class on {}", percent(share)));
        Some(text)
    }

    /// Commands; none where no program was built.
    fn on_the_board(&self, folder: &Path) -> Vec<String> {
        let program = folder.join("bin/student");
        if !self.files.iter().any(|file| file.path == "bin/student") {
            return vec![];
        }
        let quoted = format!("'{}'", program.display().to_string().replace('\'', "'\\''"));
        match self.header.target.as_str() {
            "host" => vec![format!("{quoted} --help")],
            _ => vec![format!("scp {quoted} USER@BOARD:"), "ssh USER@BOARD ./student --help".into()],
        }
    }
}
