package import Inference
package import JSONScanning
import Sampling

/// Why a request is answered with an error.
///
/// Messages name the field and what to do; they hold no paths, addresses or traces.
package enum APIError: Error, Equatable, Sendable {
  /// The body is no JSON object.
  case badBody(reason: String)
  /// A field is missing, of the wrong kind or out of range; `path` is like `messages[2].role`.
  case badField(path: String, reason: String)
  /// The prompt and the answer do not fit the context; `path` is the field of the prompt.
  case contextTooLong(
    path: String, promptTokenCount: Int, maximumTokens: Int?, contextLength: Int)
  /// No key, or a wrong one.
  case unauthorized
  /// A model that is not served.
  case unknownModel(name: String)
  /// A path that leads nowhere.
  case unknownPath(path: String)
  /// A stored thing that is not there; `path` is the field that names it, if one does.
  case notStored(kind: String, id: String, path: String?)
  /// The path is right, the method is not.
  case wrongMethod(method: String, allowed: [String])
  /// The body is not declared as JSON.
  case notJSON(contentType: String)
  /// The body is compressed.
  case encodedBody(coding: String)
  /// This server cannot do it, now or ever.
  case notImplemented(path: String, reason: String)
  /// The model is still loading.
  case loading(fraction: Double, secondsLeft: Double?)
  /// The engine refuses or has given up.
  case engine(GenerationFailure)
  /// What the guard refused before there was a request.
  case transport(status: Int, reason: String)
  /// A fault of ours.
  case `internal`
}

extension APIError {
  /// The HTTP status.
  package var status: Int {
    switch self {
    case .badBody, .badField, .contextTooLong, .notImplemented: 400
    case .unauthorized: 401
    case .unknownModel, .unknownPath, .notStored: 404
    case .wrongMethod: 405
    case .notJSON, .encodedBody: 415
    case .loading: 503
    case .transport(let status, _): status
    case .internal: 500
    case .engine(let failure):
      switch failure {
      case .loading, .draining, .queueFull, .queuedTokensFull, .peerLost: 503
      case .sampling(.invalidLogit): 500
      case .contextTooLong, .cacheTooSmall, .tokenOutOfRange, .emptyPrompt, .sampling,
        .priorityUnsupported:
        400
      case .duplicateID: 409
      case .engineStopped, .refusedByNode: 500
      }
    }
  }

  /// The type in an OpenAI error object.
  package var type: String {
    switch status {
    case 400, 405, 408, 413, 415, 417, 431: "BadRequestError"
    case 401: "AuthenticationError"
    case 404: "NotFoundError"
    case 409: "ConflictError"
    case 501, 505: "NotImplementedError"
    case 503: "ServiceUnavailableError"
    default: "InternalServerError"
    }
  }

  /// The type in an Anthropic error object.
  package var anthropicType: String {
    switch status {
    case 401: "authentication_error"
    case 403: "permission_error"
    case 404: "not_found_error"
    case 413: "request_too_large"
    case 429: "rate_limit_error"
    case 503: "overloaded_error"
    case 500, 501: "api_error"
    default: "invalid_request_error"
    }
  }

  /// The field at fault.
  package var parameter: String? {
    switch self {
    case .badField(let path, _), .notImplemented(let path, _): path
    case .unknownModel: "model"
    case .contextTooLong(let path, _, _, _): path
    case .notStored(_, _, let path): path
    default: nil
    }
  }

  /// Seconds after which another try makes sense.
  package var retryAfterSeconds: Int? {
    switch self {
    case .loading(_, let left): max(1, min(60, Int((left ?? 5).rounded(.up))))
    case .engine(.queueFull(_, let seconds)), .engine(.queuedTokensFull(_, let seconds)): seconds
    case .engine(.loading), .engine(.peerLost): 5
    case .engine(.draining): 10
    default: nil
    }
  }

  /// What a person reads.
  package var message: String {
    switch self {
    case .badBody(let reason): reason
    case .badField(let path, let reason): path.isEmpty ? reason : "`\(path)` \(reason)"
    case .contextTooLong(_, let prompt, let maximum, let context):
      if let maximum {
        GenerationFailure.contextTooLong(
          promptTokenCount: prompt, maximumTokens: maximum, contextLength: context
        ).description
      } else {
        "This model's maximum context length is \(context) tokens. However, your messages "
          + "resulted in \(prompt) tokens. Please reduce the length of the messages."
      }
    case .unauthorized: "No valid API key was given; send it as `Authorization: Bearer KEY`."
    case .unknownModel(let name): "The model `\(name)` does not exist."
    case .unknownPath(let path):
      path.hasPrefix("/v1/v1/")
        ? "There is no \(path): base_url should end in /v1 once."
        : "There is no \(path); the routes are listed at /docs."
    case .notStored(let kind, let id, _): "There is no \(kind) with the id `\(id)`."
    case .wrongMethod(let method, let allowed):
      "\(method) is not allowed here; use \(allowed.joined(separator: " or "))."
    case .notJSON(let type): "The body must be application/json, not \(type)."
    case .encodedBody(let coding):
      "The body must come as it is, without Content-Encoding, not \(coding)."
    case .notImplemented(let path, let reason): "`\(path)` \(reason)"
    case .loading(let fraction, let left):
      "The model is loading: \(Int(fraction * 100)) % done"
        + (left.map { ", about \(Int($0.rounded(.up))) s to go." } ?? ".")
    case .engine(let failure): failure.description
    case .transport(_, let reason): reason
    case .internal: "The server made a mistake; the request id finds it in the log."
    }
  }

  /// The error object of OpenAI's shape.
  package var json: JSONValue {
    [
      "error": [
        "message": .string(message), "type": .string(type),
        "param": parameter.map { .string($0) } ?? nil, "code": .integer(status),
      ]
    ]
  }

  /// The error object of Anthropic's shape.
  package func anthropicJSON(requestID: String) -> JSONValue {
    [
      "type": "error",
      "error": ["type": .string(anthropicType), "message": .string(message)],
      "request_id": .string(requestID),
    ]
  }
}
