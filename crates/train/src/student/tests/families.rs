//! Every network family: those kept in the repository, and all seventeen where `KDC_DATA` names a folder with them.

use super::*;
use kdc_ir::{onnx, pass};
use std::path::PathBuf;

pub(super) fn models() -> Vec<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/networks/families");
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(own).unwrap().map(|e| e.unwrap().path().join("model.onnx")).collect();
    match std::env::var_os("KDC_DATA") {
        Some(data) => {
            let folder = PathBuf::from(data).join("models/families");
            let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
            found.extend(files.filter(|p| p.extension().is_some_and(|e| e == "onnx")));
        }
        None => eprintln!("skipped: families outside the repository; KDC_DATA names no folder with models/families"),
    }
    found.sort();
    found
}

#[test]
fn families_shrink_run_train_and_export() {
    let mut seen = 0;
    for path in models() {
        let name = path.display().to_string();
        let (mut graph, _) = prepare(&onnx::load(&path).unwrap()).unwrap();
        pass::insert_batch_norm(&mut graph, &Default::default());
        let groups = Groups::find(&graph);
        assert!(!groups.groups.is_empty(), "{name} has no groups: {:#?}", groups.fixed);
        let inputs: Vec<Tensor> =
            graph.inputs.iter().enumerate().map(|(i, &id)| input(graph.value(id), 2, i + 1)).collect();
        let (before, _) = kdc_ir::graph::cost(&graph);
        for share in [0.5, 0.25] {
            let student = assert_equal_to_masked(&graph, &groups, share, &inputs, &name);
            let (after, _) = kdc_ir::graph::cost(&student);
            let left = after.params as f64 / before.params as f64;
            eprintln!(
                "{name} at {share}: {} groups, {:.3} of the parameters, {:.3} of the MACs",
                groups.groups.len(),
                left,
                after.macs as f64 / before.macs as f64
            );
            assert!(left < share * 1.3, "{name} at {share} keeps {left:.3} of the parameters");
            assert_trains(&student, &inputs, &name);
            let again = onnx::import(onnx::export(&student).unwrap().into(), None).unwrap();
            let off = difference(&computed(&student, &inputs), &computed(&again, &inputs));
            assert!(off <= 1e-5, "{name}: {off} after export");
        }
        seen += 1;
    }
    assert!(seen >= 9, "{seen} families");
}
