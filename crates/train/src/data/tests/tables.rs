//! CSV, JSON lines and Parquet.

use super::*;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs;

/// `[batch,features]` to `[batch,classes]`.
fn network_for(features: usize, classes: usize) -> Graph {
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(features)]);
    let weights = b.constant("w", Tensor::f32([features, classes], vec![0.0; features * classes]));
    let y = b.node("product", Op::MatMul, &[x, weights]).unwrap();
    b.finish(&[y])
}

/// Reads one file with a sidecar that says `more`.
fn read(name: &str, bytes: &[u8], more: &str, network: &Graph) -> Result<Splits, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let format = name.rsplit('.').next().unwrap();
    let text = format!("[data]\npath = \"{name}\"\nformat = \"{format}\"\n{more}");
    load(&Sidecar::parse(Path::new("net.toml"), &text).unwrap(), &path, network)
}

fn values(part: &Arc<dyn Dataset>) -> Vec<f32> {
    part.batch(&SampleView::plain(0..part.len())).remove(0).to_f32().into_owned()
}

const TABLE: &str = "id,width,height,kind,part\n1,1.5,-2,cat,train\n2,3,4e1,dog,train\n3,5,6,cat,test\n";
const ROLES: &str = "[table]\nlabel = \"kind\"\nignore = [\"id\"]\n[split]\nrule = \"part == test\"\n";

/// The same table as JSON lines.
fn lines() -> String {
    let mut lines = TABLE.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let cell = |text: &str| text.parse::<f64>().map_or(format!("{text:?}"), |x| x.to_string());
    let object = |cells: Vec<&str>| {
        let pairs = names.iter().zip(cells).map(|(name, text)| format!("\"{name}\": {}", cell(text)));
        format!("{{{}}}\n", pairs.collect::<Vec<_>>().join(", "))
    };
    lines.map(object).collect()
}

/// The same table as Parquet, in Snappy or Zstandard.
fn parquet(compression: parquet::basic::Compression) -> Vec<u8> {
    let schema = "message schema { required int32 id; required double width; optional double height; \
                  required binary kind (UTF8); required binary part (UTF8); }";
    let properties = WriterProperties::builder().set_compression(compression).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let words = |words: [&str; 3]| words.map(ByteArray::from);
    macro_rules! column {
        ($type:ty, $values:expr, $levels:expr) => {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<$type>().write_batch(&$values, $levels, None).unwrap();
            column.close().unwrap();
        };
    }
    column!(Int32Type, [1, 2, 3], None);
    column!(DoubleType, [1.5, 3.0, 5.0], None);
    column!(DoubleType, [-2.0, 40.0, 6.0], Some(&[1, 1, 1]));
    column!(ByteArrayType, words(["cat", "dog", "cat"]), None);
    column!(ByteArrayType, words(["train", "train", "test"]), None);
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn the_three_formats_give_the_same_samples() {
    use ::parquet::basic::{Compression, ZstdLevel};
    let network = network_for(2, 2);
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let files = [
        ("t.csv", TABLE.as_bytes().to_vec()),
        ("t.jsonl", lines().into_bytes()),
        ("t.parquet", parquet(Compression::UNCOMPRESSED)),
        ("t.parquet", parquet(Compression::SNAPPY)),
        ("t.parquet", parquet(zstd)),
    ];
    for (name, bytes) in files {
        let set = read(name, &bytes, ROLES, &network).unwrap();
        assert_eq!((values(&set.train), values(&set.test)), (vec![1.5, -2.0, 3.0, 40.0], vec![5.0, 6.0]), "{name}");
        assert_eq!(set.class_names, ["cat", "dog"]);
        assert_eq!([set.train.label(0), set.train.label(1), set.test.label(0)], [Some(0), Some(1), Some(0)]);
        assert_eq!(set.train.inputs()[0].shape, [2]);
        let names = vec!["width".into(), "height".into()];
        assert_eq!(set.train.show(0), Preview::Numbers { names, values: vec![1.5, -2.0] });
    }
}

#[test]
fn another_table_may_be_named_whatever_the_sidecar_calls_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    fs::write(&path, lines()).unwrap();
    let text = format!("[data]\npath = \"t.csv\"\nformat = \"csv\"\n{ROLES}");
    let set = load(&Sidecar::parse(Path::new("net.toml"), &text).unwrap(), &path, &network_for(2, 2)).unwrap();
    assert_eq!(values(&set.test), [5.0, 6.0]);
}

#[test]
fn columns_go_by_name_or_index_and_are_normalised_one_by_one() {
    let roles = "[table]\nlabel = 0\nfeatures = [2, 1]\nheader = false\ndelimiter = \";\"\n[split]\nratio = 0.5\n\
                 [input]\nscale = 2.0\nmean = [1.0, 0.0]\nstd = [1.0, 4.0]\n";
    let rows: String = (0..40).map(|i| format!("{};{i};{}\n", i % 3 + 1, i * 10)).collect();
    let set = read("t.csv", rows.as_bytes(), roles, &network_for(2, 3)).unwrap();
    assert_eq!(
        (set.train.len() + set.test.len(), set.class_names.clone()),
        (40, vec!["1".into(), "2".into(), "3".into()])
    );
    for (part, row) in [(&set.train, 0), (&set.test, 1)] {
        let [a, b] = values(part)[2 * row..][..2] else { panic!() };
        // (20·i − 1) / 1 and 2·i / 4 are of one row.
        assert_eq!((a + 1.0) / 20.0, b * 2.0);
        assert_eq!(part.label(row), Some((b * 2.0) as u16 % 3));
    }
}

#[test]
fn two_files_may_have_their_columns_in_another_order() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("train.csv"), "a,b,y\n1,2,0\n3,4,1\n").unwrap();
    fs::write(folder.path().join("test.csv"), "y,b,a\n1,20,10\n,40,30\n").unwrap();
    let text = "[data]\npath = \"x\"\nformat = \"csv\"\n[table]\nlabel = \"y\"\n";
    let read = || load(&Sidecar::parse(Path::new("net.toml"), text).unwrap(), folder.path(), &network_for(2, 2));
    let set = read().unwrap();
    assert_eq!(values(&set.test), [10.0, 20.0, 30.0, 40.0]);
    // An empty label is none.
    assert_eq!([0, 1].map(|i| set.test.label(i)), [Some(1), None]);
    fs::write(folder.path().join("test.csv"), "y,b\n1,20\n").unwrap();
    let message = read().unwrap_err().to_string();
    assert!(message.contains("test.csv:1: there is no column \"a\"; there are y, b"), "{message}");
}

#[test]
fn what_cannot_be_used_is_named_by_line() {
    let network = network_for(2, 2);
    let csv = |good: &str, bad: &str| ("t.csv", TABLE.replace(good, bad).into_bytes());
    let json = |good: &str, bad: &str| ("t.jsonl", lines().replace(good, bad).into_bytes());
    let whole = parquet(::parquet::basic::Compression::SNAPPY);
    let mut latin = csv("dog", "d\u{1}g");
    latin.1.iter_mut().filter(|b| **b == 1).for_each(|b| *b = 0xe9);
    let cases = [
        (csv("2,3,4e1,dog,train", "2,3,4e1,dog"), "t.csv:3: this row has 4 cells, the rows before it have 5"),
        (csv("4e1", "much"), "t.csv:3: column \"height\" holds \"much\""),
        (csv("4e1", "NaN"), "t.csv:3: column \"height\" holds \"NaN\", which is no finite number"),
        (csv("4e1", "inf"), "t.csv:3: column \"height\" holds \"inf\""),
        (csv("4e1", "1e99"), "t.csv:3: column \"height\" holds \"1e99\""),
        (csv("4e1", ""), "t.csv:3: column \"height\" is empty"),
        (csv("kind", "sort"), "t.csv:1: there is no column \"kind\"; there are id, width, height, sort, part"),
        (csv("part\n", "side\n"), "t.csv:1: there is no column \"part\""),
        (csv("3,5,6,cat", "3,5,6,cow"), "t.csv:4: label \"cow\" names none of the 2 classes (cat, dog)"),
        (csv("id,", "number,"), "t.csv:1: there is no column \"id\""),
        (csv(TABLE, ""), "t.csv: the file is empty"),
        (csv("test\n", "train\n"), "no test samples"),
        (latin, "t.csv:3: it is not UTF-8"),
        (json("40", "true\"}"), "t.jsonl:2: this line is no JSON object"),
        (json("40", "[40]"), "t.jsonl:2: \"height\" is a list or an object"),
        (json("40", "null"), "t.jsonl:2: column \"height\" is empty"),
        (json("{\"id\": 2", "[2"), "t.jsonl:2: this line is no JSON object"),
        (("t.jsonl", vec![]), "t.jsonl: the file is empty"),
        (("t.parquet", whole[..whole.len() / 2].to_vec()), "t.parquet: it cannot be read as Parquet"),
        (("t.parquet", vec![]), "t.parquet: it cannot be read as Parquet"),
        (("t.parquet", b"id,width".to_vec()), "t.parquet: it cannot be read as Parquet"),
    ];
    for ((name, bytes), expected) in cases {
        let message = read(name, &bytes, ROLES, &network).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} should say {expected:?}");
    }
    let message = read("t.csv", TABLE.as_bytes(), ROLES, &network_for(3, 2)).unwrap_err().to_string();
    assert!(message.contains("x is [batch,3]") && message.contains("[batch,2]"), "{message}");
    let message = read("t.csv", TABLE.as_bytes(), "[table]\nlabel = \"kind\"\n", &network).unwrap_err().to_string();
    assert!(message.contains("t.csv: one file is no training and test samples"), "{message}");
    let both = ROLES.replace("ignore", "features = [\"width\", \"kind\"]\nignore");
    let message = read("t.csv", TABLE.as_bytes(), &both, &network).unwrap_err().to_string();
    assert!(message.contains("\"kind\" is both the label and a feature"), "{message}");
    let augmented = format!("{ROLES}[augment]\nflip = true\n");
    let message = read("t.csv", TABLE.as_bytes(), &augmented, &network).unwrap_err().to_string();
    assert!(message.contains("flip in [augment] is not for these samples, which are rows of a table"), "{message}");
}

#[test]
fn damaged_parquet_never_panics() {
    let network = network_for(2, 2);
    let whole = parquet(::parquet::basic::Compression::SNAPPY);
    for at in (0..whole.len()).step_by(3) {
        for change in [0x01, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            // Some bytes are free to change; what matters is that it ends in a result.
            let _ = read("t.parquet", &bytes, ROLES, &network);
        }
    }
}
