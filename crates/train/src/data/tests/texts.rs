//! Texts by a tokenizer.

use super::*;
use kdc_ir::graph::Data;
use std::fs;

const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [
  {"id": 0, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
  "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
  "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}], "pair": [],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
      "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}}, "decoder": null,
  "model": {"type": "WordLevel", "unk_token": "[UNK]",
    "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "good": 4, "bad": 5, "film": 6, "very": 7}}}"#;

const TEXTS: &str =
    "text,kind,part\n\"Good film, very\",pos,train\nbad,neg,train\nvery very very very bad film,neg,test\n";

const SIDECAR: &str = "[table]\nlabel = \"kind\"\n[split]\nrule = \"part == test\"\n[text]\ncolumn = \"text\"\ntokenizer = \"tokenizer.json\"\n";

/// A network with inputs of so many tokens each, in an order of its own.
fn network_for(inputs: &[(&str, DType)], tokens: usize) -> Graph {
    let mut b = Builder::new("net");
    let ids: Vec<_> = inputs.iter().map(|(name, _)| b.input(name, &[Dim::Batch, Dim::Fixed(tokens)])).collect();
    let weights = b.constant("w", Tensor::f32([tokens, 2], vec![0.0; 2 * tokens]));
    let y = b.node("product", Op::MatMul, &[ids[0], weights]).unwrap();
    let mut graph = b.finish(&[y]);
    for (&id, &(_, dtype)) in ids.iter().zip(inputs) {
        graph.value_mut(id).dtype = dtype;
    }
    graph
}

fn three() -> Graph {
    network_for(&[("attention_mask", DType::I32), ("input_ids", DType::I64), ("token_type_ids", DType::F32)], 6)
}

fn read(tokenizer: &str, more: &str, network: &Graph) -> Result<Splits, Error> {
    read_for("", tokenizer, more, network)
}

/// With `data` in the sidecar's [data].
fn read_for(data: &str, tokenizer: &str, more: &str, network: &Graph) -> Result<Splits, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    fs::write(&path, TEXTS).unwrap();
    if !tokenizer.is_empty() {
        fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
    }
    let text = format!("[data]\npath = \"t.csv\"\nformat = \"csv\"\n{data}{SIDECAR}{more}");
    load(&Sidecar::parse(&folder.path().join("net.toml"), &text)?, &path, network)
}

#[test]
fn tokens_mask_and_types_go_to_their_inputs() {
    let set = read(TOKENIZER, "", &three()).unwrap();
    assert_eq!((set.train.len(), set.test.len(), set.class_names.clone()), (2, 1, vec!["neg".into(), "pos".into()]));
    assert_eq!([0, 1].map(|i| set.train.label(i)), [Some(1), Some(0)]);
    let batch = set.train.batch(&SampleView::plain([1, 0]));
    let names: Vec<_> = set.train.inputs().iter().filter_map(|input| input.name.as_deref()).collect();
    assert_eq!(names, ["attention_mask", "input_ids", "token_type_ids"]);
    assert!(batch.iter().all(|part| part.shape == [2, 6]));
    // [CLS] bad [SEP], padded; [CLS] good film , very [SEP].
    assert_eq!(batch[0].data, Data::I32(vec![1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1]));
    assert_eq!(batch[1].data, Data::I64(vec![2, 5, 3, 0, 0, 0, 2, 4, 6, 1, 7, 3]));
    assert_eq!(batch[2].data, Data::F32(vec![0., 1., 1., 0., 0., 0., 0., 1., 1., 1., 1., 1.].into()));
    // Cut to six, the special ones included.
    assert_eq!(set.test.batch(&SampleView::plain([0]))[1].data, Data::I64(vec![2, 7, 7, 7, 7, 3]));
    let Preview::Tokens { tokens } = set.train.show(1) else { panic!() };
    assert_eq!(tokens, ["[CLS]", "bad", "[SEP]"]);
}

/// A network that answers with a token for each of six positions, of so many.
fn language_model(vocabulary: usize) -> Graph {
    let mut b = Builder::new("net");
    let ids = b.input_like(&kdc_ir::graph::Value {
        name: "ids".into(),
        dtype: DType::I64,
        shape: vec![Dim::Batch, Dim::Fixed(6)],
        data: None,
        quant: None,
    });
    let table = b.constant("table", Tensor::f32([8, vocabulary], vec![0.0; 8 * vocabulary]));
    let y = b.node("embed", Op::Gather { axis: 0 }, &[table, ids]).unwrap();
    b.finish(&[y])
}

#[test]
fn language_models_are_asked_for_what_is_hidden() {
    const TOKENS: &str = "answers = \"tokens\"\n";
    let masked = TOKENIZER.replace("\"very\": 7", "\"[MASK]\": 7");
    let set = read_for(TOKENS, &masked, "", &language_model(8)).unwrap();
    assert_eq!((set.answers.clone(), set.class_names.len(), set.train.label(0)), (Task::MaskedLm, 0, None));
    let (mut some, mut masks) = (0, 0);
    for number in 0..200 {
        let look = [SampleView { sample: 0, view: Some(View { seed: 3, number }) }];
        let Data::I64(seen) = set.train.batch(&look).remove(0).data else { panic!() };
        let hidden = set.train.hidden(&look).unwrap();
        // [CLS] good film [UNK] [UNK] [SEP], of which the ends are never hidden.
        let plain = [2, 4, 6, 1, 1, 3];
        assert_eq!(hidden.real, [true; 6]);
        assert_eq!((hidden.tokens[0], hidden.tokens[5]), (None, None));
        for (at, token) in hidden.tokens.iter().enumerate() {
            match token {
                Some(token) => assert_eq!(i64::from(*token), plain[at]),
                None => assert_eq!(seen[at], plain[at]),
            }
            some += usize::from(token.is_some());
            masks += usize::from(seen[at] == 7);
        }
    }
    // 120 of 800 expected.
    assert!((60..180).contains(&some) && masks > some / 2, "{some} {masks}");
    assert!(read_for("", &masked, "", &network_for(&[("ids", DType::I64)], 6)).unwrap().train.hidden(&[]).is_none());
    let refused = |tokenizer: &str, network: &Graph, expected: &str| {
        let message = read_for(TOKENS, tokenizer, "", network).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} should say {expected:?}");
    };
    refused(TOKENIZER, &language_model(8), "it has no token [MASK] or <mask>");
    refused(&masked, &language_model(7), "it has 8 tokens, the network tells 7 apart");
    let flat = network_for(&[("ids", DType::I64)], 6);
    refused(&masked, &flat, "it has 8 tokens, the network tells 2 apart");
}

#[test]
fn views_drop_tokens_but_never_the_ends() {
    let network = network_for(&[("attention_mask", DType::I32), ("input_ids", DType::I64)], 6);
    let augment = |share: f64| format!("[augment]\ntoken_dropout = {share}\n");
    let set = read(TOKENIZER, &augment(0.25), &network).unwrap();
    let plain = set.train.batch(&SampleView::plain([0]));
    let Data::I64(right) = &plain[1].data else { panic!() };
    let mut dropped = 0;
    for number in 0..400 {
        let look = [SampleView { sample: 0, view: Some(View { seed: 3, number }) }];
        let batch = set.train.batch(&look);
        assert_eq!(batch[0], plain[0]);
        let Data::I64(seen) = &batch[1].data else { panic!() };
        assert_eq!((seen[0], seen[5]), (2, 3));
        // [UNK] stands for what is dropped: of four tokens, one is unknown anyway.
        dropped += seen.iter().zip(right).filter(|(a, b)| a != b).inspect(|(a, _)| assert_eq!(**a, 1)).count();
        assert_eq!(set.train.batch(&look), batch);
        assert!(set.train.hidden(&look).is_none());
    }
    // 300 of 1,200 expected; six standard deviations.
    assert!((210..390).contains(&dropped), "{dropped}");

    let nothing = TOKENIZER.replace("[UNK]", "[OTHER]");
    let message = read(&nothing, &augment(0.25), &network).unwrap_err().to_string();
    assert!(message.contains("which token_dropout puts in place of others"), "{message}");
    let message = read(TOKENIZER, "[augment]\nshift = 1\n", &network).unwrap_err().to_string();
    assert!(
        message.contains("shift in [augment] is not for these samples, which are texts; for them: token_dropout"),
        "{message}"
    );
}

#[test]
fn the_length_may_be_less_than_the_network_takes() {
    let network = network_for(&[("tokens", DType::I64)], 6);
    let set = read(TOKENIZER, "max_length = 4\n", &network).unwrap();
    assert_eq!(set.test.batch(&SampleView::plain([0]))[0].data, Data::I64(vec![2, 7, 7, 3, 0, 0]));
    assert_ne!(set.test.hash(), read(TOKENIZER, "", &network).unwrap().test.hash());
}

#[test]
fn what_cannot_be_used_is_named() {
    let refused = |tokenizer: &str, more: &str, network: &Graph, expected: &str| {
        let message = read(tokenizer, more, network).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} should say {expected:?}");
    };
    refused("these are no braces", "", &three(), "tokenizer.json: it is no tokenizer.json");
    refused("{\"model\": 3}", "", &three(), "tokenizer.json: it is no tokenizer.json");
    refused("", "", &three(), "tokenizer.json");
    refused(TOKENIZER, "max_length = 7\n", &three(), "max_length of [text] is 7, the network takes 6");
    refused(TOKENIZER, "max_length = 0\n", &three(), "max_length of [text] is 0");
    refused(TOKENIZER, "max_length = 1\n", &three(), "max_length 1 leaves no room beside the 2 special tokens");
    refused(TOKENIZER, "mask = \"is_text\"\n", &three(), "its input attention_mask is none of input_ids, is_text and");
    refused(TOKENIZER, "length = 7\n", &three(), "net.toml:");
    refused(TOKENIZER, "", &network_for(&[("ids", DType::Bool)], 6), "its input ids is of type bool");
    refused(&TOKENIZER.replace("\"[UNK]\": 1, ", ""), "", &three(), "tokenizer.json");
    let message = read(TOKENIZER, "", &super::network(2)).unwrap_err().to_string();
    assert!(message.contains("image is [batch,1,28,28], texts become [batch,tokens]"), "{message}");
}
