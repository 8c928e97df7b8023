use super::*;
use crate::program::check;
use crate::target;

#[test]
fn shapes_are_the_same_for_the_same_seed_and_cover_every_family() {
    for precision in [Precision::Int8, Precision::F32] {
        let of = |seed| micro::programs(precision, seed);
        let programs = |micros: &[Micro]| micros.iter().map(|m| m.program.clone()).collect::<Vec<_>>();
        let first = of(7);
        assert!(programs(&first) == programs(&of(7)) && programs(&first) != programs(&of(8)));
        let steps = first.iter().flat_map(|m| m.program.steps.iter().map(move |s| (m, s)));
        let counted: Vec<(Family, Counts)> =
            steps.filter_map(|(m, step)| terms::terms(&m.program, step, precision)).collect();
        for family in Family::ALL.into_iter().filter(|f| *f != Family::Ports) {
            let of = counted.iter().filter(|(f, _)| *f == family).count();
            assert!(of >= family.terms().len(), "{precision:?}: {of} kernels of {}", family.name());
        }
        assert!(counted.iter().all(|(_, counts)| counts.iter().all(|c| c.is_finite() && *c >= 0.0)));
    }
}

#[test]
fn programs_are_small_enough_for_the_cache_that_they_are_timed_in() {
    for precision in [Precision::Int8, Precision::F32] {
        assert!(micro::programs(precision, 1).iter().all(|m| m.plan.arena_bytes <= 1 << 20));
    }
    let stream = stream::program();
    assert_eq!(check(&stream.program, &stream.plan), Ok(()));
}

#[test]
fn what_cannot_be_observed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut profile = target::find("raspberry-pi", &[]).unwrap();
    let refused = |profile: &Profile| {
        calibrate(profile, Effort::default(), folder.path(), &|_| ()).map(|_| ()).unwrap_err().to_string()
    };
    profile.emulator.as_mut().unwrap().program = "no-such-qemu".into();
    assert!(refused(&profile).contains("no-such-qemu"));
    profile.emulator = None;
    assert!(refused(&profile).contains("[emulator]"));
}

/// A few kernels, really built and timed.
#[test]
fn this_machine_is_calibrated() {
    let profile = target::find("host", &[]).unwrap();
    if let Err(missing) = toolchain::find(&profile) {
        return kdc_ir::testing::skipped(missing);
    }
    let folder = tempfile::tempdir().unwrap();
    let effort = Effort { every: 13, rounds: 1, ..Effort::default() };
    let calibration = calibrate(&profile, effort, folder.path(), &|_| ()).unwrap();
    let conv =
        calibration.families.iter().find(|f| f.family == Family::Conv2d && f.precision == Precision::F32).unwrap();
    assert!(conv.benchmarks >= 15 && conv.median_error < 0.5, "{conv:?}");
    assert!(calibration.cost.weight_bytes_per_cycle > 0.1);
    assert!(calibration.cost.f32.source.starts_with("estimate: fitted by kdc calibrate to "));
}
