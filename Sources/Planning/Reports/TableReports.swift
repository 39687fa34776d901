import CostModel

// Tables 1 to 7 of the report, from first principles, next to what it prints.

extension ReportInputs {
  func table1() throws(CostModelError) -> Report {
    var rows: [[ReportCell]] = []
    for model in reportModels {
      let published = model.publishedParameterCount
      rows.append([
        .text(model.name), .text(model.title), .number(Double(model.layerCount)),
        .number(Double(model.hiddenDimension)), .number(model.parameterCount),
        .init(published), .init(published.map { model.parameterCount / $0 - 1 }),
        .number(model.activeParameterCount), .number(model.sparsity),
      ])
    }
    return Report(
      name: "table1", title: "Parameters: totals test every dimension of the catalogue at once",
      columns: [
        .init("model", "model"), .init("title", "in the report"),
        .init("layers", "layers", .integer),
        .init("hidden", "hidden", .integer), .init("parameters", "parameters", .scientific(4)),
        .init("published", "published", .scientific(4)),
        .init("deviation", "deviation", .percent(2)),
        .init("active_parameters", "active", .scientific(3)),
        .init("sparsity", "sparsity S", .fixed(4)),
      ], rows: rows,
      notes: [
        "Active parameters leave out the input embedding, which is a look-up.",
        "Sparsity counts the shared expert: DSv3 is 9/257, where Section 5.3 prints 9/256.",
      ])
  }

  func table2() throws(CostModelError) -> Report { try work(name: "table2", kilotokens: 8) }

  func table3() throws(CostModelError) -> Report { try work(name: "table3", kilotokens: 32) }

  private func work(name: String, kilotokens: Int) throws(CostModelError) -> Report {
    var rows: [[ReportCell]] = []
    for model in reportModels {
      let work = try TokenWork(model, context: kilotokens * kilo, assumptions: assumptions)
      let printed =
        name == "table2"
        ? published.values(name, model.name)
        : published.values(name, model.name) + published.values("table2", model.name).suffix(2)
      let values = [
        work.kvByteCount, work.attentionFlops, work.linearFlops, work.feedForwardFlops,
      ]
      let worst = zip(values, printed).map { abs($0 / $1 - 1) }.max()
      rows.append(
        [.text(model.name)] + values.map { .number($0) } + printed.map { .number($0) }
          + [.init(worst)])
    }
    let quantities = [
      ("kv_bytes", "KV bytes"), ("attention_flops", "attention FLOPs"),
      ("linear_flops", "linear FLOPs"), ("ffn_flops", "FFN FLOPs"),
    ]
    return Report(
      name: name, title: "Work per decoded token at \(kilotokens)K context",
      columns: [.init("model", "model")]
        + quantities.map { .init($0.0, $0.1, .scientific(3)) }
        + quantities.map { .init("printed_" + $0.0, "printed", .scientific(3)) }
        + [.init("worst_deviation", "worst", .percent(2))],
      rows: rows,
      notes: [
        "2 FLOPs per multiply-add; router, embedding and output head left out; every cached token "
          + "attended.",
        "The report counts MLA over 576 in both products; the absorbed kernel does 5.6 % less "
          + "(--mla exact).",
      ])
  }

  func table4() throws(CostModelError) -> Report {
    var rows: [[ReportCell]] = []
    for device in try reportDevices() {
      rows.append([
        .text(device.name), .number(try device.hourlyPrice(assumptions.priceLevel)),
        .number(device.bf16Peak), .init(device.fp8Peak), .number(device.bandwidth),
        .number(device.roofline(usingInt8: assumptions.usesInt8)),
        .init(published.values("table4", device.name).last),
      ])
    }
    let a800 = try hardware.hardware(named: "a800")
    let ascend = try hardware.hardware(named: "910b")
    let proportional = try a800.hourlyPrice(.mid) * ascend.bf16Peak / a800.bf16Peak
    return Report(
      name: "table4", title: "Accelerators: price, dense peaks, bandwidth, roofline",
      columns: [
        .init("hardware", "hardware"), .init("usd_per_hour", "USD/h", .fixed(2)),
        .init("bf16_flops", "BF16", .scientific(3)), .init("fp8_flops", "FP8", .scientific(3)),
        .init("bandwidth", "B/s", .scientific(3)), .init("roofline", "roofline", .fixed(1)),
        .init("printed_roofline", "printed", .integer),
      ], rows: rows,
      notes: [
        "The 910B's price is no quotation: in proportion to the A800's FLOPS it would be "
          + "\(fixedText(proportional, decimals: 3)) USD/h."
      ])
  }

  func table5() throws(CostModelError) -> Report {
    var rows: [[ReportCell]] = []
    for device in try reportDevices() {
      let price = try UnitPrice(device, assumptions: assumptions)
      let printed = published.values("table5", device.name)
      rows.append([
        .text(device.name), .number(price.flop), .number(price.byte), .init(printed.first),
        .init(printed.last),
      ])
    }
    return Report(
      name: "table5", title: "Unit prices of a fully used device",
      columns: [
        .init("hardware", "hardware"), .init("usd_per_flop", "USD/FLOP", .scientific(3)),
        .init("usd_per_byte", "USD/byte", .scientific(3)),
        .init("printed_usd_per_flop", "printed", .scientific(3)),
        .init("printed_usd_per_byte", "printed", .scientific(3)),
      ], rows: rows,
      notes: [
        "The report prints 2.80e-19 for an H800 FLOP; 2 / 3600 / 1.98e15 is 2.81e-19.",
        "FP8 on H800 and H20; BF16 on A800 and 910B (--int8 computes those in INT8).",
      ])
  }

  func table6() throws(CostModelError) -> Report {
    let devices = try reportDevices()
    var rows: [[ReportCell]] = []
    var differing = 0
    for model in reportModels {
      var values: [Double] = []
      for kilotokens in [8, 32] {
        for device in devices {
          values.append(try cost(model.name, on: device.name, kilotokens: kilotokens).attention)
        }
      }
      for device in devices {
        values.append(try cost(model.name, on: device.name, kilotokens: 8).feedForward)
      }
      let printed = published.values("table6", model.name)
      differing += zip(values, printed).count {
        fixedText($0, decimals: 3) != fixedText($1, decimals: 3)
      }
      rows.append([.text(model.name)] + values.map { .number($0) })
    }
    let names = devices.map(\.name)
    let groups = [("attention_8k", "8K"), ("attention_32k", "32K"), ("ffn", "FFN")]
    return Report(
      name: "table6", title: "USD per million tokens: attention at 8K and 32K, FFN",
      columns: [.init("model", "model")]
        + groups.flatMap { group in
          names.map { .init("\(group.0)_\($0)", "\(group.1) \($0)", .fixed(3)) }
        }, rows: rows,
      notes: [
        "\(108 - differing) of the report's 108 cells agree after rounding to three decimals.",
        "Computed at full precision: with the unit prices as Table 5 prints them only 91 would.",
      ])
  }

  func table7() throws(CostModelError) -> Report {
    var rows: [[ReportCell]] = []
    for device in try reportDevices() {
      func sparsity(_ stage: Double, _ network: Double) -> Double {
        minimumSparsity(
          hidden: 7168, layers: 61, roofline: device.roofline(usingInt8: false),
          serverNetwork: 8 * network, stage: stage, bytesPerElement: bytesPerElement)
      }
      rows.append([
        .text(device.name), .number(sparsity(sparsityStage, device.nicBandwidth)),
        .number(sparsity(0.05 / 3, device.nicBandwidth)),
        .number(sparsity(sparsityStage, device.nicBandwidth) * 2 / bytesPerElement),
        .number(sparsity(sparsityStage, device.nicBandwidth * 0.8)),
        .init(published.values("table7", device.name).first),
      ])
    }
    return Report(
      name: "table7", title: "Minimum MoE sparsity for a compute-bound FFN, H = 7168, 61 layers",
      columns: [
        .init("hardware", "hardware"), .init("minimum_sparsity", "S min", .fixed(4)),
        .init("exact_stage", "exact 50/3 ms", .fixed(4)),
        .init("full_duplex", "full duplex", .fixed(4)),
        .init("measured_nic", "NIC at 80 %", .fixed(4)), .init("printed", "printed", .fixed(3)),
      ], rows: rows,
      notes: [
        "The report truncates 50/3 ms x 2/3 to 11.1 ms; full duplex moves 2 instead of 3 bytes "
          + "per element on the busier direction.",
        "400G NICs for H800 and H20, 200G for A800 and 910B, eight per server.",
      ])
  }
}
