//! ONNX files: protobuf → [`Graph`](crate::graph::Graph) and back. Nothing else knows protobuf.
