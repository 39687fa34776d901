package import JSONScanning

/// Why a tokenizer cannot be built or used.
package enum TokenizerError: Error, Equatable, Sendable {
  /// A file that the tokenizer needs is not in the directory.
  case fileMissing(path: String)
  /// A file exists but cannot be read; the code is `errno`.
  case fileUnreadable(path: String, code: Int32)
  /// A file is no JSON.
  case json(file: String, JSONError)
  /// A member is absent or of another kind than the format says.
  case malformed(member: String, expected: String)
  /// A component that byte-level BPE tokenizers of this family do not use, named as in the file.
  case unsupported(component: String, value: String)
  /// A pattern uses a construct whose meaning cannot be carried over to PCRE2.
  case unsupportedPattern(pattern: String, construct: String)
  /// PCRE2 refuses a pattern; offset is in the translated pattern.
  case invalidPattern(pattern: String, message: String, offset: Int)
  /// PCRE2 gave up on a text; the code is one of its error codes.
  case matchingFailed(code: Int32)
  /// A merge names a token that the vocabulary lacks.
  case mergeOutsideVocabulary(rank: Int, token: String)
  /// Two tokens claim one id.
  case duplicateID(TokenID, first: String, second: String)
  /// The vocabulary lists one token twice.
  case duplicateToken(String)
  /// An id is negative or absurdly large.
  case invalidID(Int, token: String)
  /// An added token stands in the vocabulary under another id.
  case conflictingID(token: String, vocabulary: TokenID, added: TokenID)
  /// A token that must exist is not in the tokenizer.
  case tokenMissing(String)
  /// An id that belongs to no token.
  case unknownID(TokenID)
}

extension TokenizerError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .fileMissing(let path):
      return "\(path) does not exist; a checkpoint folder needs it to turn text into tokens"
    case .fileUnreadable(let path, let code): return "\(path) cannot be read (errno \(code))"
    case .json(let file, let error): return "\(file): \(error)"
    case .malformed(let member, let expected):
      return "tokenizer.json: \(member) must be \(expected)"
    case .unsupported(let component, let value):
      return "tokenizer.json: \(component) \"\(value)\" is not supported; "
        + "byte-level BPE tokenizers with Split, ByteLevel and Digits are"
    case .unsupportedPattern(let pattern, let construct):
      return "tokenizer.json: pattern /\(pattern)/ uses \(construct), which is not supported"
    case .invalidPattern(let pattern, let message, let offset):
      return "tokenizer.json: pattern /\(pattern)/ is invalid at \(offset): \(message)"
    case .matchingFailed(let code): return "PCRE2 could not split the text (code \(code))"
    case .mergeOutsideVocabulary(let rank, let token):
      return "tokenizer.json: merge \(rank) needs the token \"\(token)\", "
        + "which is not in the vocabulary"
    case .duplicateID(let id, let first, let second):
      return "tokenizer.json: id \(id) belongs to both \"\(first)\" and \"\(second)\""
    case .duplicateToken(let token):
      return "tokenizer.json: the vocabulary lists \"\(token)\" twice"
    case .invalidID(let id, let token):
      return "tokenizer.json: token \"\(token)\" has the id \(id), which is out of range"
    case .conflictingID(let token, let vocabulary, let added):
      return "tokenizer.json: \"\(token)\" is \(vocabulary) in the vocabulary "
        + "but \(added) among the added tokens"
    case .tokenMissing(let token): return "the tokenizer has no token \"\(token)\""
    case .unknownID(let id): return "\(id) is not the id of a token"
    }
  }
}
