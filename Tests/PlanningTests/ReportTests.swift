import CostModel
import JSONScanning
import Planning
import Testing

/// The value of `key` in the first row that begins with `labels`.
private func value(_ report: Report, _ key: String, _ labels: String...) throws -> Double {
  try #require(report.number(key, where: labels), "\(report.name) \(labels) \(key)")
}

private func isNear(_ value: Double, _ expected: Double, _ tolerance: Double) -> Bool {
  abs(value - expected) <= tolerance
}

@Suite("Reports against the printed report")
struct ReportTests {
  private let inputs: ReportInputs

  init() throws {
    inputs = try ReportInputs()
  }

  private func report(_ name: String) throws -> Report {
    try #require(try ReportCatalogue.report(name, from: inputs))
  }

  @Test("tables 2 and 3 agree with every printed number within its third digit")
  func work() throws {
    for name in ["table2", "table3"] {
      let table = try report(name)
      #expect(table.rows.count == 9)
      for model in inputs.models.models {
        #expect(try value(table, "worst_deviation", model.name) < 0.0036)
      }
    }
  }

  @Test("all 108 cells of Table 6 agree after rounding")
  func table6() throws {
    let table = try report("table6")
    #expect(table.notes[0].hasPrefix("108 of"))
    for model in inputs.models.models {
      let printed = inputs.published.values("table6", model.name)
      let row = try #require(table.rows.first { $0[0] == .text(model.name) })
      for (cell, expected) in zip(row.dropFirst(), printed) {
        guard case .number(let number) = cell else { continue }
        #expect(fixedText(number, decimals: 3) == fixedText(expected, decimals: 3))
      }
    }
  }

  @Test("rooflines, unit prices and minimum sparsities are the printed ones")
  func smallTables() throws {
    for (name, flop, byte) in [
      ("h800", 2.806e-19, 1.66e-16), ("h20", 7.51e-19, 5.56e-17), ("a800", 6.68e-19, 1.04e-16),
      ("910b", 6.65e-19, 1.16e-16),
    ] {
      #expect(abs(try value(report("table5"), "usd_per_flop", name) / flop - 1) < 0.004)
      #expect(abs(try value(report("table5"), "usd_per_byte", name) / byte - 1) < 0.004)
    }
    for (name, sparsity) in [
      ("h800", 0.0582), ("h20", 0.0073), ("a800", 0.0307), ("910b", 0.03447),
    ] {
      #expect(isNear(try value(report("table7"), "minimum_sparsity", name), sparsity, 0.00005))
    }
  }

  @Test("reference costs of the cheapest pairs, four contexts each")
  func pairs() throws {
    let expected: [(String, [Double])] = [
      ("step3", [0.0420, 0.0550, 0.1288, 0.4238]), ("dsv3", [0.0438, 0.0677, 0.2109, 0.7837]),
      ("kimi-k2", [0.0409, 0.0648, 0.2080, 0.7808]),
      ("qwen3-235b", [0.0399, 0.0618, 0.1933, 0.7189]),
      ("qwen3-32b", [0.0530, 0.0828, 0.2618, 0.9776]),
      ("llama4-maverick", [0.0393, 0.0672, 0.1343, 0.4028]),
      ("minimax-m1", [0.0853, 0.0947, 0.1506, 0.3743]),
      ("ernie-4.5", [0.0588, 0.0839, 0.2349, 0.8389]),
      ("pangu-pro", [0.0336, 0.0559, 0.1902, 0.7270]),
    ]
    let report = try report("pairs")
    for (model, values) in expected {
      for (kilotokens, usd) in zip(["4", "8", "32", "128"], values) {
        #expect(isNear(try value(report, "usd_per_mtok", model, kilotokens), usd, 0.00005))
      }
    }
  }

  @Test("the figures' drawn values, within the line width")
  func figures() throws {
    let second = try report("figure2")
    #expect(second.rows.count == 40)
    #expect(isNear(try value(second, "usd_per_mtok", "step3", "8", "910b"), 0.079, 0.0008))
    #expect(isNear(try value(second, "usd_per_mtok", "qwen3-32b", "8", "h20"), 0.107, 0.0008))
    #expect(isNear(try value(second, "usd_per_mtok", "dsv3", "8", "h20"), 0.164, 0.0008))
    let third = try report("figure3")
    #expect(third.rows.count == 18)
    #expect(isNear(try value(third, "usd_per_mtok", "llama4-maverick", "128"), 1.177, 0.002))
    let fourth = try report("figure4")
    #expect(isNear(try value(fourth, "decoding_8k", "step3"), 0.0788, 0.0002))
    #expect(isNear(try value(fourth, "training", "step3"), 0.2128, 0.0005))
    #expect(try report("figure1").rows.count == 9)
  }

  @Test("measured throughputs within the stated errors, roles told apart")
  func table8() throws {
    let table = try report("table8")
    for (system, error, role) in [
      ("DSv3 EP144", 0.030, "predicted"), ("DSv3 EP128", 0.012, "fitted"),
      ("Step-3 3A2F BF16", -0.041, "predicted"), ("Step-3 2A2F FP8", 0.001, "fitted"),
      ("Step-3 4A2F FP8", 0.001, "both extrapolated"),
    ] {
      #expect(isNear(try value(table, "error", system), error, 0.0015), "\(system)")
      let row = try #require(table.rows.first { $0[0] == .text(system) })
      #expect(row.contains(.text(role)))
    }
    #expect(isNear(try value(table, "model", "DSv3 EP128"), 2353, 1))
    #expect(isNear(try value(table, "model", "DSv3 EP144"), 1905, 1))
  }

  @Test("the sixteen times of Table 9 within 6.5 % and 3.4 % rms")
  func table9() throws {
    let table = try report("table9")
    #expect(table.rows.count == 16)
    #expect(table.notes[0].contains("rms 3.4 %"))
    for row in table.rows {
      guard case .number(let error) = row[5] else { continue }
      #expect(abs(error) < 0.065)
    }
  }

  @Test("kernel shares follow from the slopes of Table 9")
  func efficiency() throws {
    let table = try report("efficiency")
    #expect(isNear(try value(table, "bandwidth_share", "mfa", "h800"), 0.943, 0.0006))
    #expect(isNear(try value(table, "flops_share", "mfa", "h20"), 0.687, 0.0006))
    #expect(isNear(try value(table, "padded_flops_share", "gqa", "h20"), 0.625, 0.0006))
    #expect(isNear(try value(table, "flops_share", "mla", "h20"), 0.830, 0.0006))
    #expect(isNear(try value(table, "constant_us", "mfa", "a800"), 213, 0.6))
    #expect(isNear(try value(table, "layer_8k", "gqa", "h20"), 0.37, 0.005))
  }

  @Test("speculation and 4-bit KV ratios")
  func whatIf() throws {
    let mtp = try report("mtp")
    let expected: [(String, String, String, Double, Double)] = [
      ("step3", "h800", "8", 0.79, 0.73), ("step3", "h800", "32", 0.66, 0.61),
      ("step3", "h20", "8", 1.20, 1.10), ("step3", "a800", "8", 1.09, 1.00),
      ("step3", "a800", "32", 1.03, 0.94), ("step3", "910b", "32", 0.94, 0.86),
      ("dsv3", "h800", "8", 1.08, 1.00), ("dsv3", "h800", "32", 1.05, 0.97),
      ("qwen3-235b", "h800", "8", 0.64, 0.59), ("qwen3-235b", "a800", "8", 0.70, 0.64),
      ("qwen3-235b", "h20", "8", 0.77, 0.71), ("qwen3-235b", "910b", "32", 0.62, 0.57),
    ]
    for (model, device, context, low, high) in expected {
      #expect(isNear(try value(mtp, "ratio_70", model, device, context), low, 0.0051))
      #expect(isNear(try value(mtp, "ratio_85", model, device, context), high, 0.0051))
    }
    let four = try report("kv4")
    #expect(isNear(try value(four, "ratio_8k", "step3", "h800"), 0.66, 0.0051))
    #expect(isNear(try value(four, "ratio_32k", "step3", "910b"), 0.78, 0.0051))
    #expect(isNear(try value(four, "ratio_32k", "qwen3-235b", "h20"), 0.55, 0.0051))
    #expect(isNear(try value(four, "ratio_32k", "dsv3", "h800"), 0.88, 0.0051))
  }

  @Test("weak hardware, budgets, imbalance and slips")
  func sections() throws {
    let weak = try report("weak-hardware")
    for (device, tokens, devices) in [
      ("rtx4090", 405e3, 36.0), ("rtx5090", 822e3, 21), ("m3-ultra", 305e3, 45),
      ("xeon-6980p", 319e3, 43), ("epyc-turin", 196e3, 59), ("epyc-genoa", 115e3, 79),
      ("l20", 328e3, 42),
    ] {
      #expect(isNear(try value(weak, "kv_tokens", device), tokens, 1000))
      #expect(try value(weak, "ffn_devices", device) == devices)
    }
    #expect(try value(weak, "ffn_cards", "l20") == 48)
    #expect(try value(weak, "ffn_cards", "l4") == 128)
    let imbalance = try report("imbalance")
    #expect(
      isNear(
        try value(imbalance, "imbalance", "DSv3 EP128, half batch of 64 per GPU"), 1.12, 0.005))
    let slips = try report("slips")
    #expect(
      isNear(
        try value(slips, "computed", "5", "Llama 4 cheaper than Step-3 from (tokens)"), 52e3, 1500))
    #expect(
      isNear(try value(slips, "computed", "16", "attention side of 3A4F, 40 GB/s"), 3036, 1))
  }

  @Test("every report has a text, a CSV and a JSON form, and charts are well-formed")
  func forms() throws {
    for name in ReportCatalogue.names {
      let report = try report(name)
      #expect(report.csv.split(separator: "\r\n").count == report.rows.count + 1)
      let document = try JSONValue(parsing: report.document.documentText)
      #expect(document["rows"]?.array?.count == report.rows.count)
      #expect(report.text.hasPrefix(report.title))
      if let svg = report.chart?.svg {
        #expect(svg.hasPrefix("<svg") && svg.hasSuffix("</svg>\n"))
        #expect(!svg.contains("nan") && !svg.contains("inf\""))
      }
    }
  }

  @Test("the cost document has the promised members, unrounded")
  func costDocument() throws {
    let model = try inputs.models.model(named: "step3")
    let devices = try HardwareCatalogue.reportNames.map {
      try inputs.hardware.hardware(named: $0)
    }
    let table = try CostTable(
      models: [model], hardware: devices, contexts: [8192, 32_768], assumptions: .init())
    let row = try #require(table.document["rows"]?.array?.first?.object)
    #expect(
      row.keys == [
        "model", "hardware", "context", "kv_bytes", "attention_flops", "linear_flops", "ffn_flops",
        "attention_usd_per_mtok", "ffn_usd_per_mtok", "total_usd_per_mtok",
      ])
    let pair = try #require(table.document["afd"]?.array?.first?.object)
    #expect(
      pair.keys == ["model", "context", "attention_hardware", "ffn_hardware", "usd_per_mtok"])
    #expect(isNear(try #require(pair["usd_per_mtok"]?.number), 0.0550, 0.00005))
  }
}
