# Completion of konstruct for fish. The program itself says what may follow.
function __konstruct_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l prefix (string match -r -- '^--[^=]+=' "$current")
    set -l path (string replace -r -- '^--[^=]+=' '' "$current")
    for line in ($program __complete "=$current" $words 2>/dev/null)
        switch $line
            case ':files'
                for found in (__fish_complete_path "$path")
                    echo "$prefix$found"
                end
            case ':folders'
                for found in (__fish_complete_directories "$path")
                    echo "$prefix$found"
                end
            case '*'
                echo $line
        end
    end
end
complete -c konstruct -f -a '(__konstruct_complete)'
