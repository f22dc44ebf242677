//! What is masked and rewritten when a layer is captured.

/// The rules of one capture.
#[derive(Debug, Clone, Default)]
pub struct CaptureRules;
