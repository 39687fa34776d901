/// The number of a token: a row of the embedding, a column of the logits.
package typealias TokenID = Int32
