// Package mailbox is the rendezvous server: the meeting place where two sides
// that share a code leave messages for one another.
//
// It speaks the protocol of magic-wormhole-mailbox-server 0.8 (JSON objects in
// WebSocket text frames at /v1), so that wormhole, tahoe, Gridsync and
// magic-folder use it unchanged:
//
//	<- welcome  {welcome: {..}}
//	-> bind     {appid, side, client_version}
//	-> list                                    <- nameplates {nameplates: []}
//	-> allocate                                <- allocated  {nameplate}
//	-> claim    {nameplate}                    <- claimed    {mailbox}
//	-> release  {nameplate}                    <- released
//	-> open     {mailbox}                      <- message    {side, phase, body, id, server_rx} ..
//	-> add      {phase, body}                  <- message    (to both sides)
//	-> close    {mailbox, mood}                <- closed
//	-> ping     {ping}                         <- pong       {pong}
//	                                           <- error      {error, orig}
//
// Every inbound frame is answered by an ack first. An object's unknown keys are
// ignored, in both directions; on that rests our extension, whose fields stand
// under the one key "warren-v1":
//
//	welcome    {"max-seconds": N}              this server keeps mailboxes that long
//	allocate   {"seconds": N, "digits": D}     keep it N seconds, name it by D random digits
//	allocated  {"seconds": N}                  the life that was granted
//	claim      {"existing": true}              claim only what exists: else an error that
//	                                           says unknown, used, expired or cancelled
//	release,   {"reason": R}                   what a later claim of the nameplate is told
//	close
//
// It differs from the reference where that harms people. Listing answers an
// empty list: a listener could claim, and thereby kill, every invite. A third
// side is refused without breaking the two that are there. Who waits for a side
// that cancels is told ("mailbox cancelled"). Claims, allocations and new mailboxes
// are limited per connection and over time, long lives more than short ones, so
// that no flood fills the tables: who floods keeps others out for as long as he
// does, and no longer. Everything is bounded: connections, frames, messages,
// mailboxes, the disk. Nameplates, mailboxes and messages
// are in bbolt and synced before they are acknowledged, so a restart loses
// nothing. No address of a client is looked at, kept or told.
//
// Call Open, serve the *Server as an http.Handler, and Close it. A mailbox that
// nobody listens to lives for eleven minutes, as at the reference server; one
// with a granted life lives until that ends, once it holds a message.
package mailbox
