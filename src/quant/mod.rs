//! Float network → calibrated network → quantized network.
