"""Running stages on other hosts: a program there that is started over SSH and talks in frames on its standard streams.

    client                                   worker
    hello (protocol, store's kind)      ->
                                        <-   hello (protocol, machine, identity of the host)
    job (stage, digests of all it needs) ->
                                        <-   need (the digests that are not there)
    data* end, for each, in that order  ->
                                        <-   ready (all of it has a name in the store)
                                        <-   event* (what the stage prints)
                                        <-   outcome (success or failure, digest of the layer that follows)
                                        <-   data* end
    job ...

Either side says `ping` now and then; one that hears nothing for a while takes the other for lost. The end of the
client's stream is the signal to end the stage, to clean up and to go. Layers travel as `kiln.engine.objects.stream`
has them and source files as they are; both are checked against their digests before they get a name in a store.

The worker keeps what it got by digest, and results by the digest of the whole job, in a store of its own.
"""
