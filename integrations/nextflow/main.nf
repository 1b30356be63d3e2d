process square {
    cpus 1
    time '10m'

    input:
    val n

    output:
    stdout

    script:
    """
    echo \$(( $n * $n ))
    """
}

workflow {
    channel.of(1, 2, 3) | square | view
}
