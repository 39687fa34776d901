/// Formats of strings that are enforced; all others are annotations.
enum StringFormats {
  static let patterns: [String: String] = [
    "date": "^\(date)$",
    "time": "^\(time)$",
    "date-time": "^\(date)T\(time)$",
    "duration": #"^P(\d+W|\d+D|\d+M(\d+D)?|\d+Y(\d+M(\d+D)?)?)$"#,
    "uuid": "^\(hex){8}-\(hex){4}-\(hex){4}-\(hex){4}-\(hex){12}$",
    "ipv4": #"^(\#(octet)\.){3}\#(octet)$"#,
    "email": #"^\#(mailbox)(\.\#(mailbox))*@(\#(label)\.)+[A-Za-z]{2,24}$"#,
    "hostname": #"^\#(label)(\.\#(label))*$"#,
  ]

  // Years from 0001; days up to 28 in every month, 29 and 30 outside of February, 31 where there
  // is one.
  private static let date = #"\#(year)-(\#(short)|\#(middle)|(0[13578]|1[02])-31)"#
  private static let year = #"(\d{3}[1-9]|\d{2}[1-9]\d|\d[1-9]\d{2}|[1-9]\d{3})"#
  private static let short = #"(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"#
  private static let middle = #"(0[13-9]|1[0-2])-(29|30)"#
  private static let time =
    #"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"#
  private static let hex = "[0-9a-fA-F]"
  private static let octet = #"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"#
  private static let label = "[A-Za-z0-9]+(-+[A-Za-z0-9]+)*"
  private static let mailbox = "[A-Za-z0-9_+-]+"
}
