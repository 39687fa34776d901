import JSONScanning

/// How the weights are stored is decided tensor by tensor, by their types and companions. Here only
/// what could not be run is refused, before a tensor is looked at.
func checkQuantization(_ top: ConfigurationReader) throws(ConfigurationError) {
  guard let json = top.value("quantization_config") else { return }
  let reader = ConfigurationReader(
    path: top.path, prefix: "quantization_config.", object: json)
  let method = try reader.string("quant_method") ?? "none"
  switch method {
  case "fp8":
    if let block = try reader.integers("weight_block_size"), block != [128, 128] {
      throw reader.unsupported("weight_block_size", "\(block)", "known is [128, 128]")
    }
    if let format = try reader.string("fmt"), format != "e4m3" {
      throw reader.unsupported("fmt", format, "known is e4m3")
    }
  case "compressed-tensors":
    let formats = ["pack-quantized", "int-quantized", "mixed-precision"]
    if let format = try reader.string("format"), !formats.contains(format) {
      throw reader.unsupported("format", format, "known are \(formats.joined(separator: ", "))")
    }
    guard case .object(let groups)? = json["config_groups"] else { return }
    for group in groups.members {
      try checkGroup(
        group.value,
        ConfigurationReader(
          path: top.path, prefix: "quantization_config.config_groups.\(group.key).weights.",
          object: group.value["weights"] ?? .object(JSONObject())))
    }
  default:
    throw reader.unsupported(
      "quant_method", method,
      "known are fp8 (block-wise E4M3) and compressed-tensors (INT8, INT4); "
        + "`step3 quantize` makes either from a BF16 checkpoint")
  }
}

/// One group of compressed-tensors: integers of 8 bits by rows or groups, of 4 bits by groups.
private func checkGroup(
  _ group: JSONValue, _ weights: ConfigurationReader
) throws(ConfigurationError) {
  guard case .object? = group["weights"] else { return }
  if let type = try weights.string("type"), type != "int" {
    throw weights.unsupported("type", type, "known is int")
  }
  let bits = weights.value("num_bits")?.integer ?? 8
  guard bits == 4 || bits == 8 else {
    throw weights.unsupported("num_bits", "\(bits)", "known are 4 and 8")
  }
  let strategies = bits == 4 ? ["group"] : ["channel", "group"]
  let strategy = try weights.string("strategy") ?? "group"
  guard strategies.contains(strategy) else {
    throw weights.unsupported(
      "strategy", strategy, "\(bits) bits need \(strategies.joined(separator: " or "))")
  }
  if strategy == "group", let size = weights.value("group_size")?.integer,
    ![32, 64, 128].contains(size)
  {
    throw weights.unsupported("group_size", "\(size)", "known are 32, 64 and 128")
  }
  if bits == 8, weights.value("symmetric") == .boolean(false) {
    throw weights.unsupported("symmetric", "false", "8 bits are read without zero points")
  }
  if let order = weights.value("actorder")?.string, order == "group" {
    throw weights.unsupported(
      "actorder", order, "columns must be stored in their own order (actorder weight or none)")
  }
}
