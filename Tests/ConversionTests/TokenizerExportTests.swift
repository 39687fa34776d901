import Conversion
import Foundation
import JSONScanning
import Tensors
import TestSupport
import Testing

@Suite struct TokenizerExportTests {
  @Test("a GGUF vocabulary becomes tokenizer.json, its settings and the chat template")
  func exportsTokenizer() throws {
    let folder = try TemporaryFolder()
    var options = ConversionOptions()
    options.mixture = .none
    let converter = try Converter(path: Fixtures.path("conversion/gqa.gguf"), options: options)
    _ = try converter.run(to: folder.file("out").path) { _, _ in }
    func json(_ name: String) throws -> JSONValue {
      try JSONValue(parsing: [UInt8](Data(contentsOf: folder.file("out/" + name))))
    }
    let tokenizer = try json("tokenizer.json")
    let model = try #require(tokenizer["model"])
    #expect(model["type"] == "BPE" && model["vocab"]?.object?.count == 269)
    #expect(model["vocab"]?["Ġthe"] == 268)
    #expect(model["merges"]?.array?.first == "t h" && model["merges"]?.array?.count == 10)
    let steps = try #require(tokenizer["pre_tokenizer"]?["pretokenizers"]?.array)
    #expect(steps.map { $0["type"] } == ["Digits", "ByteLevel"])
    #expect(steps[0]["individual_digits"] == true && steps[1]["use_regex"] == true)
    let added = try #require(tokenizer["added_tokens"]?.array)
    #expect(added.map { $0["content"] } == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    #expect(added.allSatisfy { $0["special"] == true })

    let settings = try json("tokenizer_config.json")
    #expect(settings["bos_token"] == "<|im_start|>" && settings["eos_token"] == "<|im_end|>")
    #expect(
      settings["chat_template"]?.string?.contains("message") == true
        || settings["chat_template"]?.string?.hasPrefix("{% for m in messages") == true)
    let generation = try json("generation_config.json")
    #expect(generation["eos_token_id"] == [2, 0], "the file's own end first, then end of text")
    #expect(try json("config.json")["eos_token_id"] == 2)
  }

  @Test("a folder's tokenizer and licence go along unchanged")
  func copiesFiles() throws {
    let folder = try TemporaryFolder()
    let source = Fixtures.path("conversion/hf-llama3")
    var options = ConversionOptions()
    options.mixture = .none
    _ = try Converter(path: source, options: options).run(to: folder.file("out").path) { _, _ in }
    for name in ["tokenizer.json", "LICENSE"] {
      #expect(
        FileManager.default.contentsEqual(
          atPath: source + "/" + name, andPath: folder.file("out/" + name).path), "\(name)")
    }
    let config = try JSONValue(parsing: [UInt8](Data(contentsOf: folder.file("out/config.json"))))
    #expect(config["eos_token_id"] == 2)
  }

  @Test("SHA-256 agrees with the published examples")
  func hashes() {
    func hash(_ text: String) -> String {
      ContentHash.hexadecimal(of: ByteRegion(copying: Array(text.utf8)))
    }
    #expect(hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")
        == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    let million = String(repeating: "a", count: 1_000_000)
    #expect(hash(million) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    var pieces = ContentHash()
    for piece in ["a", "b", "c"] { pieces.update(Array(piece.utf8)) }
    #expect(pieces.finish() == hash("abc"))
  }
}
