import CostModel
import Testing

@Suite("Catalogues")
struct CatalogueTests {
  @Test("every device of the command line is there, with dates on every price")
  func devices() throws {
    let catalogue = try HardwareCatalogue.builtIn()
    let names = [
      "h800", "h20", "a800", "910b", "h100", "h200", "b200", "gb200", "mi300x", "l20", "l40s",
      "l4", "rtx4090", "rtx5090", "m3-ultra", "xeon-6980p", "epyc-turin", "epyc-genoa",
    ]
    for name in names {
      let device = try catalogue.hardware(named: name)
      #expect(!device.source.isEmpty)
      if let price = device.price {
        #expect(!price.date.isEmpty)
        #expect(price.low <= price.mid && price.mid <= price.high)
      }
    }
    #expect(catalogue.entries.count == names.count)
    #expect(try catalogue.hardware(named: "Ascend-910B").name == "910b")
  }

  @Test("rooflines are the report's")
  func rooflines() throws {
    let catalogue = try HardwareCatalogue.builtIn()
    let expected = [("h800", 591.0), ("h20", 74), ("a800", 156), ("910b", 175)]
    for (name, roofline) in expected {
      let value = try catalogue.hardware(named: name).roofline(usingInt8: false)
      #expect((value * 10).rounded() / 10 == roofline)
    }
  }

  @Test("an unknown name is answered with the nearest known one")
  func nearest() throws {
    let models = try ModelCatalogue.builtIn()
    let devices = try HardwareCatalogue.builtIn()
    #expect(throws: CostModelError.self) { try models.model(named: "step-33") }
    do {
      _ = try models.model(named: "qwen3")
    } catch {
      guard case .unknownModel(_, let nearest, _) = error else {
        Issue.record("wrong error \(error)")
        return
      }
      #expect(nearest == "qwen3-235b")
    }
    do {
      _ = try devices.hardware(named: "h880")
    } catch {
      #expect(error.description.contains("did you mean \"h800\"?"))
    }
  }

  @Test("a user's file replaces entries and refuses nonsense")
  func userFile() throws {
    let good = """
      {"name": "h800", "memoryGB": 80, "bandwidthGBs": 3000, "bf16TFLOPS": 900, "nicGbps": 100,
       "devicesPerServer": 4, "price": {"mid": 1.5, "date": "2026-01"}}
      """
    let own = try HardwareCatalogue(parsing: Array(good.utf8), file: "own.json")
    let merged = try HardwareCatalogue.builtIn().merging(own)
    #expect(try merged.hardware(named: "h800").bandwidth == 3e12)
    #expect(try merged.hardware(named: "h800").hourlyPrice(.high) == 1.5)
    #expect(merged.entries.count == 18)

    let negative = good.replacing("1.5", with: "-2")
    #expect(throws: CostModelError.notPositive(quantity: "h800 price mid", value: -2)) {
      try HardwareCatalogue(parsing: Array(negative.utf8), file: "own.json")
    }
    let misspelt = good.replacing("nicGbps", with: "nicGbs")
    #expect(
      throws: CostModelError.unknownKey(
        file: "own.json", place: "h800", key: "nicGbs", nearest: "nicGbps")
    ) { try HardwareCatalogue(parsing: Array(misspelt.utf8), file: "own.json") }
    #expect(throws: CostModelError.self) {
      try HardwareCatalogue(parsing: Array("{\"hardware\": [".utf8), file: "own.json")
    }
  }

  @Test("an entry survives writing and reading")
  func roundTrip() throws {
    for entry in try HardwareCatalogue.builtIn().entries {
      let text = entry.document.documentText
      let again = try HardwareCatalogue(parsing: Array(text.utf8), file: "again.json")
      #expect(again.entries[0].bandwidth == entry.bandwidth)
      #expect(again.entries[0].fp8Peak == entry.fp8Peak)
      #expect(again.entries[0].price?.mid == entry.price?.mid)
    }
  }

  @Test("a context outside the model and a missing price are explained")
  func refusals() throws {
    let model = try ModelCatalogue.builtIn().model(named: "dsv3")
    let devices = try HardwareCatalogue.builtIn()
    let h800 = try devices.hardware(named: "h800")
    #expect(
      throws: CostModelError.contextOutOfRange(model: "dsv3", context: 1_000_000, limit: 163_840)
    ) { try DecodingCost(model, on: h800, context: 1_000_000) }
    #expect(throws: CostModelError.noPrice(hardware: "gb200")) {
      try DecodingCost(model, on: devices.hardware(named: "gb200"), context: 8192)
    }
  }
}
