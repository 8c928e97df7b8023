//! Operators that mean in opset 17 what they meant before, so that a node which is kept as it was can be written.
//!
//! From the change log of the operators (<https://github.com/onnx/onnx/blob/main/docs/Changelog.md>): versions that only
//! add element types, attributes with defaults or negative axes change nothing of an older node.

/// The first opset, of those that are read, since which an operator means what it means in opset 17. A node that holds
/// further graphs means what the nodes in those do: the newest.
pub fn since(operator: &str) -> i64 {
    match operator {
        // Gone since.
        "Upsample" | "Scatter" => i64::MAX,
        "If" | "Loop" | "Scan" | "SequenceMap" => 17,
        "RoiAlign" => 16,
        "BatchNormalization" => 14,
        "Hardmax" | "LogSoftmax" | "ReduceSum" | "Softmax" | "Split" | "Squeeze" | "Unsqueeze" => 13,
        "Dropout" => 12,
        "Clip" | "Pad" | "Resize" => 11,
        "Slice" | "TopK" => 10,
        _ => 7,
    }
}
